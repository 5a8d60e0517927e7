/* The live figures around saddles_core.js: each <div class="live" data-figure="NAME"> gets its controls,
 * pictures and playback from FIGURES. Plain SVG, no library. */
(function () {
  "use strict";
  const core = window.liveSaddles;
  if (!core) return;
  const W = 340, H = 260, PAD = { left: 46, right: 8, top: 10, bottom: 34 }, BASE = H - PAD.bottom;
  const two = (v) => Number(v).toFixed(2);
  /* label, least, largest, step, first value, how it is shown */
  const CONTROLS = {
    scale: ["initial scale", -8, 0, 0.5, -6, (v) => `1e${v}`],
    step: ["step size", 0.005, 0.15, 0.005, 0.05, (v) => Number(v).toFixed(3)],
    anisotropy: ["anisotropy of the inputs", 1, 10, 0.5, 4, (v) => Number(v).toFixed(1)],
    angle: ["angle between inputs and task", 0, 90, 5, 30, (v) => `${v}°`],
    first: ["first target value", 0.2, 3, 0.1, 2, two],
    second: ["second target value", 0, 3, 0.1, 1.2, two],
    length: ["steps", 200, 3000, 100, 600, (v) => v],
    dial: ["Λ, from lazy (left) to saddles (right)", -0.5, 6, 0.25, 0, (v) => (10 ** -v).toPrecision(2)],
  };
  const CAPTIONS = {
    loss: "Loss (solid) and predicted staircase (dashed); square-root axis.",
    units: "Input weights of the units at the marked step.",
    plane: "Path of the map: share of mode 1 and of mode 2 that is learned. Squares: the predicted saddles.",
    turn: "Angle of the map's leading input direction from that of the correlation; dashed: that of the map of rank one at which it rests.",
    skip: "Loss against gradients evaluated: the algorithm (solid), gradient descent (dashed); square-root axis.",
    shares: "Share of direction 1 (solid) and of direction 2 (dashed) that is learned.",
  };
  const task = ["anisotropy", "angle", "first", "second"];
  const FIGURES = {
    landing: { controls: ["scale", "anisotropy", "first", "second"], more: ["angle", "step", "length"], panels: ["loss", "units"] },
    plane: { controls: ["scale", "first", "second"], more: ["anisotropy", "angle", "step"], panels: ["loss", "plane"] },
    turn: { controls: task, more: ["scale", "step"], panels: ["turn", "loss"], set: { angle: 45 } },
    skip: { controls: task, more: ["scale", "step"], panels: ["skip", "plane"], frames: true },
    dial: { controls: ["dial"], more: ["first", "second"], panels: ["shares", "loss"], set: { anisotropy: 1, angle: 0 } },
  };

  function element(name, attributes, parent, text) {
    const e = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    if (text !== undefined) e.textContent = text;
    parent.appendChild(e);
    return e;
  }

  /* Axes with ticks; `x` and `y` map numbers to places. */
  function frame(svg, labels, [x0, x1], [y0, y1], ticks, root) {
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    const bend = root ? Math.sqrt : (v) => v;
    const x = (v) => PAD.left + ((W - PAD.left - PAD.right) * (v - x0)) / (x1 - x0);
    const y = (v) => BASE - ((BASE - PAD.top) * bend(Math.max(v, y0) - y0)) / bend(y1 - y0);
    element("path", { d: `M${PAD.left},${PAD.top}V${BASE}H${W - PAD.right}`, class: "axis" }, svg);
    element("text", { x: (PAD.left + W) / 2, y: H - 6, class: "label", "text-anchor": "middle" }, svg, labels[0]);
    element("text", { x: 12, y: BASE / 2, class: "label", "text-anchor": "middle", transform: `rotate(-90 12 ${BASE / 2})` }, svg, labels[1]);
    [x0, (x0 + x1) / 2, x1].forEach((v, i) =>
      element("text", { x: x(v), y: BASE + 13, class: "tick", "text-anchor": ["start", "middle", "end"][i] }, svg, +v.toPrecision(3)));
    for (const v of ticks) element("text", { x: PAD.left - 4, y: y(v) + 4, class: "tick", "text-anchor": "end" }, svg, +v.toPrecision(2));
    const line = (points, name) =>
      element("path", { d: points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(2)},${y(b).toFixed(2)}`).join(""), class: name }, svg);
    return { x, y, line };
  }

  const thinned = (list) => list.map((v, t) => [t, v]).filter((_, t) => t % Math.max(1, Math.floor(list.length / 600)) === 0);

  /* Each draws once per setting and returns what moves with the frame. */
  const PANELS = {
    loss(svg, f) {
      const { levels } = f.stairs, top = 1.08 * Math.max(f.run.losses[0], levels[0]);
      const { x, y, line } = frame(svg, ["step", "loss"], [0, f.chosen.steps], [0, top], [0, levels[1], levels[0]], true);
      levels.forEach((level, k) => {
        element("line", { x1: PAD.left, x2: W - PAD.right, y1: y(level), y2: y(level), class: "level" }, svg);
        element("text", { x: W - PAD.right - 2, y: y(level) - 3, class: "tick", "text-anchor": "end" }, svg, `rank ${k}`);
      });
      line(core.corners(f.chosen), "predicted");
      line(thinned(f.run.losses), "measured");
      return cursor(svg, (at) => x(at * f.chosen.every));
    },
    units(svg, f) {
      return (at) => {
        svg.replaceChildren();
        svg.setAttribute("viewBox", "-1.25 -1.25 2.5 2.5");
        element("circle", { cx: 0, cy: 0, r: 1, class: "rim" }, svg);
        const s = f.run.snapshots[at], norms = s.map((u) => Math.hypot(u[0], u[1]));
        const largest = Math.max(...norms, Number.MIN_VALUE);
        for (const u of s) {
          element("line", { x1: 0, y1: 0, x2: u[0] / largest, y2: -u[1] / largest, class: "unit" }, svg);
          element("circle", { cx: u[0] / largest, cy: -u[1] / largest, r: 0.035, class: "tip" }, svg);
        }
        element("text", { x: 0, y: 1.2, class: "small", "text-anchor": "middle" }, svg, `longest: ${largest.toExponential(1)}`);
      };
    },
    plane(svg, f) {
      const { x, y, line } = frame(svg, ["share of mode 1", "share of mode 2"], [0, 1.1], [0, 1.1], [0, 0.5, 1]);
      const corners = f.run.frames ? f.path : [[0, 0], [1, 0], [1, 1]];
      for (const [a, b] of corners) element("rect", { x: x(a) - 4, y: y(b) - 4, width: 8, height: 8, class: "level-mark" }, svg);
      line(f.path, "measured");
      const dot = element("circle", { r: 5, class: "tip" }, svg);
      return (at) => { dot.setAttribute("cx", x(f.path[at][0])); dot.setAttribute("cy", y(f.path[at][1])); };
    },
    turn(svg, f) {
      const { angles, end } = core.turn(f.chosen, f.run.snapshots), last = f.chosen.steps;
      const seen = [0, end, angles[angles.length - 1]];
      const low = Math.min(...seen) - 10, high = Math.max(...seen) + 10;
      const { x, line } = frame(svg, ["step", "degrees"], [0, last], [low, high], [0, end]);
      line([[0, 0], [last, 0]], "level");
      line([[0, end], [last, end]], "predicted");
      line(angles.map((a, i) => [i * f.chosen.every, Math.max(low, Math.min(high, a))]), "measured");
      return cursor(svg, (at) => x(at * f.chosen.every));
    },
    skip(svg, f) {
      const curve = [];
      for (const now of f.run.frames) {
        if (now.losses) now.losses.forEach((v, t) => curve.push([now.evaluations - now.losses.length + t, v]));
        else curve.push([now.evaluations, now.loss]);
      }
      const last = Math.max(f.chosen.steps, curve[curve.length - 1][0]), top = 1.08 * f.stairs.levels[0];
      const { x, line } = frame(svg, ["gradients evaluated", "loss"], [0, last], [0, top], [0, f.stairs.levels[1], f.stairs.levels[0]], true);
      line(thinned(core.train(f.chosen).losses), "predicted");
      line(curve, "measured");
      return cursor(svg, (at) => x(f.run.frames[at].evaluations));
    },
    shares(svg, f) {
      const { x, line } = frame(svg, ["step", "share learned"], [0, f.chosen.steps], [0, 1.1], [0, 0.5, 1]);
      [0, 1].forEach((k) => line(f.path.map((p, i) => [i * f.chosen.every, p[k]]), ["measured", "predicted"][k]));
      return cursor(svg, (at) => x(at * f.chosen.every));
    },
  };

  function cursor(svg, place) {
    const e = element("line", { y1: PAD.top, y2: BASE, class: "cursor" }, svg);
    return (at) => { e.setAttribute("x1", place(at)); e.setAttribute("x2", place(at)); };
  }

  const STAGE = {
    direction: (s) => `At a saddle, loss ${s.loss}: the leading direction of the residual correlation grows at rate ${s.rate}.`,
    jump: (s) => `One unit is placed along it at size ${s.size}, where the loss stops falling: loss ${s.loss}.`,
    saddle: (s) => `Active units descend to the next saddle: loss ${s.loss}.`,
    end: (s) => `Nothing grows any more: the least loss, ${s.loss}.`,
  };
  const short = (v) => Math.max(0, v).toPrecision(3);

  function build(box) {
    const figure = FIGURES[box.dataset.figure];
    const control = (name) => {
      const [label, min, max, step, value] = CONTROLS[name];
      return `<label>${label} <output data-live="${name}-value"></output><input type="range" data-live="${name}"
        min="${min}" max="${max}" step="${step}" value="${(figure.set || {})[name] ?? value}"></label>`;
    };
    const names = [...figure.controls, ...figure.more];
    box.innerHTML = `<div class="controls">${figure.controls.map(control).join("")}</div>
      <details><summary>More controls</summary><div class="controls">${figure.more.map(control).join("")}</div></details>
      <p data-live="summary" role="status"></p><div class="panels">${figure.panels.map((name) => `<figure>
      <svg data-live="${name}" role="img" aria-label="${CAPTIONS[name]}"></svg><figcaption>${CAPTIONS[name]}</figcaption></figure>`).join("")}</div>
      <div class="playback"><button type="button" class="btn btn-sm btn-outline-primary" data-live="play">Play</button>
      <input type="range" data-live="position" min="0" max="1" value="0" aria-label="${figure.frames ? "stage" : "step"} shown"><span data-live="now"></span></div>`;
    const $ = (name) => box.querySelector(`[data-live="${name}"]`);
    let f, at = 0, moving = [], timer = null;

    function settings() {
      const get = (name) => (names.includes(name) ? Number($(name).value) : (figure.set || {})[name] ?? CONTROLS[name][4]);
      const chosen = { initScale: 10 ** get("scale"), stepSize: get("step"), anisotropy: get("anisotropy"), angle: get("angle"), target: [get("first"), get("second")] };
      if (names.includes("dial")) chosen.initScale = core.scaleOf(10 ** -get("dial"));
      chosen.steps = get("length");
      if (!names.includes("length")) {
        const drops = core.staircase(chosen).drops.filter((d) => d < 3000);
        chosen.steps = Math.ceil((1.25 * Math.max(100, ...drops) + 60) / 20) * 20;
      }
      chosen.every = Math.max(1, Math.round(chosen.steps / 200));
      return chosen;
    }

    function said() {
      const [one, next] = f.stairs.drops, losses = f.run.losses;
      if (f.run.diverged >= 0) return `Diverged at step ${f.run.diverged}: take a smaller step size.`;
      if (figure.frames) return `Jumps: ${f.run.frames.filter((s) => s.kind === "jump").length}; gradients evaluated: ${f.run.frames[f.run.frames.length - 1].evaluations}.`;
      if (names.includes("dial")) {
        const [lead, other] = f.path.find((p) => p[0] >= 0.5) || [];
        const place = core.richness(f.chosen.initScale);
        const where = place > 1 + 1e-9 ? `DP(r) of 12 units with r = ${two(Math.max(0, 0.5 - Math.log(place) / Math.log(12)))}: nothing waits` : place > 1 - 1e-9 ? "DP(1/2)" : "richer than DP(1/2): at this step size a plateau grows";
        return `${where}. ${lead === undefined ? "Direction 1 is not half learned here." : `When direction 1 is half learned, ${Math.round(100 * other)} % of direction 2 is.`}`;
      }
      const final = short(losses[losses.length - 1]);
      if (!Number.isFinite(next)) return `One predicted drop, at step ${Math.round(one)}: the second target is zero; final loss ${final}.`;
      if (next - one < 1e-6 * one) return `Two equal modes: both predicted drops at step ${Math.round(one)}; final loss ${final}.`;
      return `Predicted drops at steps ${Math.round(one)} and ${Math.round(next)}; final loss ${final}.`;
    }
    function update() {
      stop();
      for (const name of names) $(`${name}-value`).textContent = CONTROLS[name][5]($(name).value);
      const chosen = settings();
      const run = figure.frames ? { frames: core.skip(chosen), diverged: -1, losses: [0] } : core.train(chosen);
      if (figure.frames) run.snapshots = run.frames.map((s) => s.units);
      if (!run.snapshots.length) return void ($("summary").textContent = "Diverged at once: take a smaller step size.");
      f = { chosen, run, stairs: core.staircase(chosen), path: core.shares(chosen, run.snapshots) };
      const last = run.snapshots.length - 1;
      $("position").max = last;
      $("summary").textContent = said();
      moving = figure.panels.map((name) => PANELS[name]($(name), f));
      move(figure.frames ? 0 : Math.round(last * 0.4));
    }

    function move(index) {
      at = Math.max(0, Math.min(f.run.snapshots.length - 1, index));
      for (const draw of moving) draw(at);
      const now = figure.frames && f.run.frames[at];
      const text = now
        ? `${at + 1} of ${f.run.frames.length}. ${STAGE[now.kind]({ loss: short(now.loss), rate: short(now.rate || 0), size: short(now.size || 0) })}`
        : `step ${at * f.chosen.every}, loss ${short(f.run.losses[Math.min(at * f.chosen.every, f.run.losses.length - 1)])}`;
      $("position").value = at;
      $("position").setAttribute("aria-valuetext", text);
      $("now").textContent = text;
    }

    function stop() {
      if (timer !== null) clearInterval(timer);
      timer = null;
      $("play").textContent = figure.frames ? "Next" : "Play";
    }

    function play() {
      const last = f.run.snapshots.length - 1;
      if (figure.frames) return move(at >= last ? 0 : at + 1);
      if (timer !== null) return stop();
      if (at >= last) move(0);
      $("play").textContent = "Pause";
      timer = setInterval(() => (at >= last ? stop() : move(at + 1)), 40);
    }

    for (const name of names) $(name).addEventListener("input", update);
    $("position").addEventListener("input", () => { stop(); move(Number($("position").value)); });
    $("play").addEventListener("click", play);
    update();
  }

  document.querySelectorAll(".live[data-figure]").forEach(build);
})();
