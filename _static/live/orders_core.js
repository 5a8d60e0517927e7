/* Exponents of widths and a scheme in, exponents of every quantity out. Pure functions; the
 * package checks them number by number. Widths n_l ~ n^alpha_l; entry l-1 belongs to layer l. */
(function (root, make) {
  if (typeof module === "object" && module.exports) module.exports = make();
  else root.liveOrders = make();
})(typeof self !== "undefined" ? self : this, function () {
  "use strict";

  const layersOf = (a) => a.slice(1).map((_, i) => i + 1);
  const hidden = (a) => a.slice(1, -1);

  /* Each rule: alpha -> exponents of multipliers g, deviations s, learning rates e. */
  const RULES = {
    standard: (a) => ({ g: layersOf(a).map(() => 0), s: layersOf(a).map((k) => -a[k - 1] / 2), e: layersOf(a).map(() => 0) }),
    dp: (a, r) => {
      const last = a.length - 1, gain = r * Math.min(...hidden(a));
      return {
        g: layersOf(a).map((k) => (k < last ? gain : 0) - a[k - 1] / 2),
        s: layersOf(a).map(() => -gain),
        e: layersOf(a).map(() => 0),
      };
    },
    spectral: (a) => ({
      g: layersOf(a).map((k) => (a[k] - a[k - 1]) / 2),
      s: layersOf(a).map((k) => -Math.max(a[k - 1], a[k]) / 2),
      e: layersOf(a).map(() => 0),
    }),
    "mup-wide": (a) => {
      const wide = Math.max(...hidden(a)), last = a.length - 1;
      return {
        g: layersOf(a).map((k) => (k === 1 ? (wide - a[0]) / 2 : k === last ? -wide / 2 : 0)),
        s: layersOf(a).map(() => -wide / 2),
        e: layersOf(a).map(() => 0),
      };
    },
    "mup-fan-in": (a) => {
      const last = a.length - 1;
      return {
        g: layersOf(a).map((k) => (k === 1 ? (a[1] - a[0]) / 2 : k === last ? -a[last - 1] / 2 : 0)),
        s: layersOf(a).map((k) => (k === 1 ? -a[1] / 2 : -a[k - 1] / 2)),
        e: layersOf(a).map(() => 0),
      };
    },
    "mup-package": (a) => {
      const last = a.length - 1;
      return {
        g: layersOf(a).map((k) => (k === last ? -a[last - 1] : 0)),
        s: layersOf(a).map((k) => (k === last ? 0 : -a[k - 1] / 2)),
        e: layersOf(a).map((k) => (k === last ? a[last - 1] : a[k] - a[k - 1])),
      };
    },
  };

  /* The same recursion as the package's `orders`; exponents of sums are maxima. */
  function predict(alpha, rule, r) {
    const { g, s, e } = RULES[rule](alpha, r);
    const depth = g.length;
    const root = alpha.map((a) => a / 2);
    const rms = [0];
    for (let k = 0; k < depth; k++) rms.push(rms[k] + g[k] + s[k] + root[k]);
    const norm = rms.map((v, k) => v + root[k]);
    const delta = [0];
    for (let k = depth - 1; k > 0; k--) delta.unshift(delta[0] + g[k] + s[k] + root[k]);
    const own = g.map((v, k) => e[k] + 2 * v + 2 * norm[k] + delta[k]);
    const share = own.map((v, k) => v + delta[k]);
    const total = [own[0]], upstream = [null], contribution = [share[0]];
    let below = share[0];
    for (let k = 1; k < depth; k++) {
      const passed = Math.max(below - delta[k], g[k] + s[k] + root[k + 1] + total[k - 1]);
      upstream.push(passed);
      total.push(Math.max(own[k], passed));
      below = Math.max(below, share[k]);
      contribution.push(below);
    }
    return {
      preactivation_rms: rms.slice(1),
      backward_norm: delta,
      own_change_norm: own,
      upstream_change_norm: upstream,
      change_norm: total,
      change_rms: total.map((v, k) => v - root[k + 1]),
      own_contribution: share,
      contribution,
      cosine: total.map((v, k) => contribution[k] - delta[k] - v),
      gradient_norm: g.map((v, k) => v + norm[k] + delta[k]),
      weight_norm: g.map((v, k) => v + s[k] + Math.max(alpha[k], alpha[k + 1]) / 2),
      update_norm: g.map((v, k) => e[k] + 2 * v + norm[k] + delta[k]),
      backward_update_ratio: g.map((_, k) => (k < depth - 1 ? share[k + 1] - norm[k + 1] - delta[k] : null)),
    };
  }

  /* "0, 1, 1/5, 1, 0" -> numbers; throws an Error with a sentence for anything else. */
  function parse(text) {
    const parts = text.split(/[,\s]+/).filter(Boolean);
    if (parts.length < 3) throw new Error("Give at least three exponents: input, hidden, output.");
    return parts.map((part) => {
      const match = /^(\d+(?:\.\d+)?)(?:\/(\d+))?$/.exec(part);
      const value = match ? Number(match[1]) / Number(match[2] || 1) : NaN;
      if (!Number.isFinite(value)) throw new Error(`"${part}" is no exponent: write numbers such as 1, 0.5 or 1/5.`);
      return value;
    });
  }

  return { RULES, predict, parse };
});
