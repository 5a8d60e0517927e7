/* Controls and pictures around saddles_core.js. Plain SVG, no library. */
(function () {
  "use strict";
  const core = window.liveSaddles;
  const box = document.getElementById("live-saddles");
  if (!box || !core) return;
  const SVG = "http://www.w3.org/2000/svg";
  const $ = (name) => box.querySelector(`[data-live="${name}"]`);
  const W = 340, H = 260, PAD = { left: 46, right: 8, top: 10, bottom: 34 };

  const inputs = ["scale", "step", "anisotropy", "angle", "first", "second", "length"];
  const shown = {
    scale: (v) => `1e${v}`,
    step: (v) => Number(v).toFixed(3),
    anisotropy: (v) => Number(v).toFixed(1),
    angle: (v) => `${v}°`,
    first: (v) => Number(v).toFixed(2),
    second: (v) => Number(v).toFixed(2),
    length: (v) => v,
  };

  function options() {
    const get = (name) => Number($(name).value);
    const steps = get("length");
    return {
      initScale: 10 ** get("scale"),
      stepSize: get("step"),
      anisotropy: get("anisotropy"),
      angle: get("angle"),
      target: [get("first"), get("second")],
      steps,
      every: Math.max(1, Math.round(steps / 200)),
    };
  }

  function element(name, attributes, parent, text) {
    const e = document.createElementNS(SVG, name);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    if (text !== undefined) e.textContent = text;
    parent.appendChild(e);
    return e;
  }

  function frame(svg, xLabel, yLabel) {
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    const base = H - PAD.bottom;
    element("path", { d: `M${PAD.left},${PAD.top}V${base}H${W - PAD.right}`, class: "axis" }, svg);
    element("text", { x: (PAD.left + W - PAD.right) / 2, y: H - 6, class: "label", "text-anchor": "middle" }, svg, xLabel);
    element("text", { x: 12, y: (PAD.top + base) / 2, class: "label", "text-anchor": "middle", transform: `rotate(-90 12 ${(PAD.top + base) / 2})` }, svg, yLabel);
  }

  let run, chosen, at, timer = null;

  function drawLoss() {
    const svg = $("loss");
    frame(svg, "step", "loss");
    const top = 1.08 * run.losses[0];
    const x = (t) => PAD.left + ((W - PAD.left - PAD.right) * t) / chosen.steps;
    const y = (v) => H - PAD.bottom - (H - PAD.top - PAD.bottom) * Math.sqrt(Math.max(v, 0) / top);
    const stairs = core.staircase(chosen);
    stairs.levels.forEach((level, k) => {
      element("line", { x1: PAD.left, x2: W - PAD.right, y1: y(level), y2: y(level), class: "level" }, svg);
      element("text", { x: W - PAD.right - 2, y: y(level) - 3, class: "tick", "text-anchor": "end" }, svg, `rank ${k}`);
    });
    const line = (points) => points.map(([t, v], i) => `${i ? "L" : "M"}${x(t).toFixed(2)},${y(v).toFixed(2)}`).join("");
    element("path", { d: line(core.corners(chosen)), class: "predicted" }, svg);
    const stride = Math.max(1, Math.floor(run.losses.length / 600));
    const points = [];
    for (let t = 0; t < run.losses.length; t += stride) points.push([t, run.losses[t]]);
    element("path", { d: line(points), class: "measured" }, svg);
    for (const t of [0, chosen.steps / 2, chosen.steps])
      element("text", { x: x(t), y: H - PAD.bottom + 13, class: "tick", "text-anchor": t ? (t < chosen.steps ? "middle" : "end") : "start" }, svg, Math.round(t));
    for (const v of [0, stairs.levels[1], stairs.levels[0]])
      element("text", { x: PAD.left - 4, y: y(v) + 4, class: "tick", "text-anchor": "end" }, svg, v.toPrecision(2));
    element("line", { "data-live": "cursor", y1: PAD.top, y2: H - PAD.bottom, class: "cursor" }, svg);
    moveCursor();
  }

  function moveCursor() {
    const t = at * chosen.every;
    const px = PAD.left + ((W - PAD.left - PAD.right) * t) / chosen.steps;
    const cursor = $("loss").querySelector(".cursor");
    cursor.setAttribute("x1", px);
    cursor.setAttribute("x2", px);
  }

  function drawUnits() {
    const svg = $("units");
    svg.replaceChildren();
    svg.setAttribute("viewBox", "-1.25 -1.25 2.5 2.5");
    element("circle", { cx: 0, cy: 0, r: 1, class: "rim" }, svg);
    const s = run.snapshots[at];
    const norms = s.map((u) => Math.hypot(u[0], u[1]));
    const largest = Math.max(...norms, Number.MIN_VALUE);
    s.forEach((u, i) => {
      const r = norms[i] / largest;
      const q = norms[i] ? r / norms[i] : 0;
      element("line", { x1: 0, y1: 0, x2: u[0] * q, y2: -u[1] * q, class: "unit" }, svg);
      element("circle", { cx: u[0] * q, cy: -u[1] * q, r: 0.035, class: "tip" }, svg);
    });
    element("text", { x: 0, y: 1.2, class: "small", "text-anchor": "middle" }, svg, `longest: ${largest.toExponential(1)}`);
    $("position").value = at;
    $("position").setAttribute("aria-valuetext", `step ${at * chosen.every}`);
    $("now").textContent = `step ${at * chosen.every}, loss ${Math.max(0, run.losses[Math.min(at * chosen.every, run.losses.length - 1)]).toPrecision(4)}`;
  }

  function update() {
    stop();
    for (const name of inputs) $(`${name}-value`).textContent = shown[name]($(name).value);
    chosen = options();
    run = core.train(chosen);
    const last = run.snapshots.length - 1;
    $("position").max = last;
    at = Math.min(Math.round(last * 0.4), last);
    const stairs = core.staircase(chosen);
    const [one, two] = stairs.drops;
    const final = Math.max(0, run.losses[run.losses.length - 1]);
    let said = `Predicted drops at steps ${Math.round(one)} and ${Math.round(two)}`;
    if (!Number.isFinite(two)) said = `One predicted drop, at step ${Math.round(one)}: the second target is zero`;
    else if (two - one < 1e-6 * one) said = `Two equal modes: both predicted drops at step ${Math.round(one)}`;
    $("summary").textContent = run.diverged >= 0
      ? `Diverged at step ${run.diverged}: take a smaller step size.`
      : `${said}; final loss ${final.toExponential(2)}.`;
    drawLoss();
    drawUnits();
  }

  function move(index) {
    at = Math.max(0, Math.min(run.snapshots.length - 1, index));
    moveCursor();
    drawUnits();
  }

  function stop() {
    if (timer !== null) clearInterval(timer);
    timer = null;
    $("play").textContent = "Play";
  }

  function play() {
    if (timer !== null) return stop();
    if (at >= run.snapshots.length - 1) move(0);
    $("play").textContent = "Pause";
    timer = setInterval(() => {
      if (at >= run.snapshots.length - 1) stop();
      else move(at + 1);
    }, 40);
  }

  for (const name of inputs) $(name).addEventListener("input", update);
  $("position").addEventListener("input", () => { stop(); move(Number($("position").value)); });
  $("play").addEventListener("click", play);
  update();
})();
