/* A table of predicted exponents for the reader's own widths. */
(function () {
  "use strict";
  const core = window.liveOrders;
  const box = document.getElementById("live-orders");
  if (!box || !core) return;
  const $ = (name) => box.querySelector(`[data-live="${name}"]`);
  const NAMES = {
    preactivation_rms: "size of a pre-activation",
    backward_norm: "norm of the backward signal",
    own_change_norm: "change by own weights, norm",
    change_norm: "total change, norm",
    change_rms: "total change per neuron",
    own_contribution: "loss removed by the layer",
    cosine: "cosine of change and backward signal",
    gradient_norm: "norm of the gradient",
  };
  const round = (v) => (Math.abs(v) < 5e-4 ? "0" : v.toFixed(3).replace(/\.?0+$/, "").replace("-", "\u2212"));

  function update() {
    const rule = $("scheme").value, r = Number($("r").value);
    $("r").disabled = rule !== "dp";
    $("r-value").textContent = rule === "dp" ? r.toFixed(2) : "not used";
    let alpha;
    try {
      alpha = core.parse($("widths").value);
      $("error").textContent = "";
    } catch (error) {
      $("error").textContent = error.message;
      return;
    }
    const found = core.predict(alpha, rule, r);
    const head = document.createElement("tr");
    const cell = (tag, text, scope) => {
      const e = document.createElement(tag);
      e.textContent = text;
      if (scope) e.scope = scope;
      return e;
    };
    head.append(cell("th", "exponent of n in layer", "col"), ...found.backward_norm.map((_, k) => cell("th", k + 1, "col")));
    const rows = Object.entries(NAMES).map(([name, label]) => {
      const row = document.createElement("tr");
      row.append(cell("th", label, "row"), ...found[name].map((v) => cell("td", v === null ? "" : round(v))));
      return row;
    });
    $("table").replaceChildren(head, ...rows);
  }

  for (const name of ["widths", "scheme", "r"]) $(name).addEventListener("input", update);
  update();
})();
