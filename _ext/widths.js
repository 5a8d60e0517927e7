// Run in a page: [name, px beyond its box, whether that scrolls, whether it must fit] of what may be wide.
() => {
  document.querySelectorAll("details").forEach((box) => { box.open = true; });
  const texts = new Map(window.MathJax && MathJax.startup
    ? [...MathJax.startup.document.math].map((item) => [item.typesetRoot, item.math]) : []);
  const flow = (node) => getComputedStyle(node).overflowX;
  const around = (node) => flow(node) !== "visible" || !node.parentElement ? node
    : around(node.parentElement);
  const name = (node) => {
    const number = node.closest(".math")?.querySelector(".eqno")?.firstChild.textContent;
    const text = (texts.get(node) || node.innerText).trim().replace(/\s+/g, " ").slice(0, 60);
    const kind = { PRE: "output", TABLE: "table" }[node.tagName] || "formula";
    return `${kind} ${number || ""} in #${node.closest(":is(.math, .proof, section)[id]")?.id}, "${text}"`;
  };
  return [...document.querySelectorAll("mjx-container, pre, table")].map((node) => {
    const place = node.getBoundingClientRect(), box = around(node);
    const right = Math.max(place.right, place.left + node.scrollWidth);
    return [name(node), Math.round(right - box.getBoundingClientRect().right),
      /auto|scroll/.test(flow(box)), node.matches("mjx-container[display=true], .cell pre")];
  }).filter(([, beyond]) => beyond > 1);
}
