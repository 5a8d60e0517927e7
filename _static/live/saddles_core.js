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
      const w = mapOf(s);
      const loss = lossOf(w, m);
      if (!Number.isFinite(loss) || loss > 1e12) { diverged = t; break; }
      losses.push(loss);
      if (t % options.every === 0) snapshots.push(s.map((row) => row.slice()));
      move(s, residual(w, m), options.stepSize);
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

  /* The modes in the order in which they escape: left vectors u_k and gains mu_k. */
  function modes(m) {
    const gains = m.yy; // Syx Sxx^-1 Syx' of a noiseless teacher
    const { vectors } = eigen(commutes(m) ? mul(m.yx, transpose(m.yx)) : gains);
    return { vectors, mu: vectors.map((u) => dot(u, times(gains, u))), total: gains[0][0] + gains[1][1] };
  }

  /* The place Lambda = epsilon^2 m_1 sqrt(m_0) of an initial scale on the axis of richness, and back. */
  const richness = (scale) => scale * scale * UNITS * Math.SQRT2;
  const scaleOf = (place) => Math.sqrt(place / (UNITS * Math.SQRT2));

  const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
  const times = (a, v) => [dot(a[0], v), dot(a[1], v)];
  const mapOf = (s) => [0, 1].map((i) => [0, 1].map((j) => s.reduce((sum, u) => sum + u[2 + i] * u[j], 0)));

  /* Share of each mode that is learned, u_k' W Syx' u_k / mu_k, for each snapshot; 0 for a mode without target. */
  function shares(options, snapshots) {
    const m = moments(options), { vectors, mu } = modes(m);
    return snapshots.map((s) => {
      const learned = mul(mapOf(s), transpose(m.yx));
      return vectors.map((u, k) => (mu[k] > 1e-12 * mu[0] ? dot(u, times(learned, u)) / mu[k] : 0));
    });
  }

  /* Angle in degrees, -90 to 90, of the leading input direction of W from that of Syx: for each
   * snapshot, and (`end`) of the map of rank one at which the run rests. */
  function turn(options, snapshots) {
    const m = moments(options);
    const leading = (w) => { const v = eigen(mul(transpose(w), w)).vectors[0]; return Math.atan2(v[1], v[0]); };
    const from = leading(m.yx);
    const apart = (w) => { const d = ((leading(w) - from) * 180) / Math.PI; return d - 180 * Math.round(d / 180); };
    const u = modes(m).vectors[0]; // the map of rank one at which the run rests is u u' Syx Sxx^-1
    const [[a, b], [, d]] = m.xx, det = a * d - b * b, c = times(transpose(m.yx), u);
    const row = [(d * c[0] - b * c[1]) / det, (a * c[1] - b * c[0]) / det];
    return { angles: snapshots.map((s) => apart(mapOf(s))), end: apart(u.map((v) => row.map((x) => v * x))) };
  }

  /* The plateau-skipping algorithm on the same problem, as a list of frames: each with its kind
   * (direction, jump, saddle, end), the loss, the units and the gradients evaluated so far; a saddle has the
   * losses on the way to it. A unit is placed where the loss stops falling along its direction. */
  function skip(options) {
    const m = moments(options), units = [], frames = [];
    let evaluations = 0, first = 0;
    const show = (kind, more) => frames.push({ kind, loss: lossOf(mapOf(units), m), units: units.map((u) => u.slice()), evaluations, ...more });
    for (;;) {
      const r = residual(mapOf(units), m);
      evaluations++;
      const { values, vectors } = eigen(mul(r, transpose(r))), rate = Math.sqrt(Math.max(values[0], 0));
      first = first || rate;
      if (!(rate > 1e-7 * first) || units.length === 2) { show("end", { rate }); return frames; }
      const u = vectors[0], v = times(transpose(r), u).map((x) => x / rate);
      const size = rate / dot(v, times(m.xx, v));
      show("direction", { rate, size });
      units.push([...v, ...u].map((x) => x * Math.sqrt(size)));
      show("jump", { rate, size });
      const losses = [];
      for (let t = 0; t < 20000; t++) {
        losses.push(lossOf(mapOf(units), m));
        evaluations++;
        if (move(units, residual(mapOf(units), m), options.stepSize) <= 1e-9 * first) break;
      }
      show("saddle", { losses });
    }
  }

  const residual = (w, m) => { const wxx = mul(w, m.xx); return m.yx.map((row, i) => row.map((v, j) => v - wxx[i][j])); };

  /* One step of every unit, in place; the largest entry of the gradient. */
  function move(s, r, stepSize) {
    let largest = 0;
    for (const u of s) {
      const [a0, a1, b0, b1] = u;
      const g = [b0 * r[0][0] + b1 * r[1][0], b0 * r[0][1] + b1 * r[1][1], r[0][0] * a0 + r[0][1] * a1, r[1][0] * a0 + r[1][1] * a1];
      for (let i = 0; i < 4; i++) u[i] += stepSize * g[i];
      largest = Math.max(largest, ...g.map(Math.abs));
    }
    return largest;
  }

  /* Levels of the loss, and the steps of the two drops (Infinity if a mode never wakes). */
  function staircase(options) {
    const m = moments(options);
    const { vectors, mu, total } = modes(m);
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

  return { UNITS, moments, start, train, staircase, corners, shares, turn, skip, richness, scaleOf };
});
