/* Gradient descent of a two-layer linear net with two inputs and two outputs, and its
 * predicted staircase. Pure functions, no page needed; the package checks them number by number.
 *
 * Same conventions as the book: L = 1/2 E|y - f|^2, S = [W1, W2'], steps of size eta.
 */
(function (root, make) {
  if (typeof module === "object" && module.exports) module.exports = make();
  else root.liveSaddles = make();
})(typeof self !== "undefined" ? self : this, function () {
  "use strict";

  const UNITS = 12;
  const mul = (a, b) => a.map((row) => b[0].map((_, j) => row.reduce((s, v, k) => s + v * b[k][j], 0)));
  const transpose = (a) => a[0].map((_, j) => a.map((row) => row[j]));
  const rotation = (t) => [[Math.cos(t), -Math.sin(t)], [Math.sin(t), Math.cos(t)]];
  const diag = (p, q) => [[p, 0], [0, q]];

  /* Second moments of the problem. anisotropy: ratio of the two input variances, >= 1;
   * angle: degrees between the axes of the inputs and those of the task. */
  function moments({ anisotropy, angle, target }) {
    const task = rotation(0.4);
    const axes = rotation(0.4 + (angle * Math.PI) / 180);
    const root = Math.sqrt(anisotropy);
    const xx = mul(mul(axes, diag(root, 1 / root)), transpose(axes));
    const teacher = mul(mul(rotation(1.1), diag(target[0], target[1])), transpose(task));
    const yx = mul(teacher, xx);
    return { xx, yx, yy: mul(yx, transpose(teacher)) };
  }

  /* Rows of S at the start, before the factor epsilon: fixed numbers spread evenly in [-1, 1]. */
  function start() {
    const golden = (Math.sqrt(5) - 1) / 2;
    const s = [];
    for (let i = 0; i < UNITS; i++) {
      const row = [];
      for (let j = 0; j < 4; j++) row.push(Math.cos(2 * Math.PI * (((4 * i + j + 1) * golden) % 1)));
      s.push(row);
    }
    return s;
  }

  function lossOf(w, m) {
    let total = 0;
    for (let i = 0; i < 2; i++) {
      total += m.yy[i][i];
      for (let j = 0; j < 2; j++) {
        total -= 2 * w[i][j] * m.yx[i][j];
        for (let k = 0; k < 2; k++) total += w[i][j] * m.xx[j][k] * w[i][k];
      }
    }
    return 0.5 * total;
  }

  /* Runs `steps` steps; returns the loss at 0..steps and S at every `every`-th step.
   * Stops early, with diverged = step, if the loss is no longer finite. */
  function train(options) {
    const m = moments(options);
    const s = start().map((row) => row.map((v) => v * options.initScale));
    const losses = [], snapshots = [];
    let diverged = -1;
    for (let t = 0; t <= options.steps; t++) {
      const w = [[0, 0], [0, 0]];
      for (const u of s)
        for (let i = 0; i < 2; i++) for (let j = 0; j < 2; j++) w[i][j] += u[2 + i] * u[j];
      const loss = lossOf(w, m);
      if (!Number.isFinite(loss) || loss > 1e12) { diverged = t; break; }
      losses.push(loss);
      if (t % options.every === 0) snapshots.push(s.map((row) => row.slice()));
      const wxx = mul(w, m.xx);
      const r = m.yx.map((row, i) => row.map((v, j) => v - wxx[i][j]));
      for (const u of s) {
        const [a0, a1, b0, b1] = u;
        u[0] += options.stepSize * (b0 * r[0][0] + b1 * r[1][0]);
        u[1] += options.stepSize * (b0 * r[0][1] + b1 * r[1][1]);
        u[2] += options.stepSize * (r[0][0] * a0 + r[0][1] * a1);
        u[3] += options.stepSize * (r[1][0] * a0 + r[1][1] * a1);
      }
    }
    return { losses, snapshots, diverged };
  }

  /* Eigenvalues (falling) and eigenvectors of a symmetric 2 x 2 matrix. */
  function eigen(a) {
    const mean = (a[0][0] + a[1][1]) / 2;
    const half = (a[0][0] - a[1][1]) / 2;
    const gap = Math.hypot(half, a[0][1]);
    const t = Math.atan2(a[0][1], half) / 2;
    return { values: [mean + gap, mean - gap], vectors: [[Math.cos(t), Math.sin(t)], [-Math.sin(t), Math.cos(t)]] };
  }

  function commutes(m) {
    const b = mul(transpose(m.yx), m.yx);
    const p = mul(m.xx, b), q = mul(b, m.xx);
    const norm = (a) => Math.sqrt(a.flat().reduce((s, v) => s + v * v, 0));
    return norm(p.map((row, i) => row.map((v, j) => v - q[i][j]))) <= 1e-10 * norm(m.xx) * norm(b);
  }

  /* Levels of the loss, and the steps of the two drops (Infinity if a mode never wakes). */
  function staircase(options) {
    const m = moments(options);
    const gains = m.yy; // Syx Sxx^-1 Syx' of a noiseless teacher
    const order = commutes(m) ? mul(m.yx, transpose(m.yx)) : gains;
    const { vectors } = eigen(order);
    const mu = vectors.map((u) => u[0] * (gains[0][0] * u[0] + gains[0][1] * u[1]) + u[1] * (gains[1][0] * u[0] + gains[1][1] * u[1]));
    const total = gains[0][0] + gains[1][1];
    const levels = [total / 2, (total - mu[0]) / 2, Math.max(0, (total - mu[0] - mu[1]) / 2)];
    const first = eigen(mul(m.yx, transpose(m.yx))).values.map((v) => Math.sqrt(Math.max(v, 0)));
    const u = vectors[1];
    const floor = 2 * Number.EPSILON * first[0]; // a mode below rounding is no mode
    const second = Math.hypot(u[0] * m.yx[0][0] + u[1] * m.yx[1][0], u[0] * m.yx[0][1] + u[1] * m.yx[1][1]);
    const rate = (v) => Math.log1p(options.stepSize * v);
    const depth = Math.log(1 / options.initScale);
    const one = depth / rate(first[0]);
    const two = second > floor
      ? one + ((1 - rate(first[1]) / rate(first[0])) * depth) / rate(second)
      : Infinity;
    return { levels, drops: [one, two], rates: [first[0], first[1], second] };
  }

  /* The predicted loss curve: one saddle's level after the other, as corners [step, loss]. */
  function corners(options) {
    const { levels, drops } = staircase(options);
    const points = [[0, levels[0]]];
    drops.forEach((step, k) => {
      const at = Math.min(step, options.steps);
      points.push([at, levels[k]]);
      if (step <= options.steps) points.push([step, levels[k + 1]]);
    });
    const last = points[points.length - 1];
    if (last[0] < options.steps) points.push([options.steps, last[1]]);
    return points;
  }

  return { UNITS, moments, start, train, staircase, corners };
});
