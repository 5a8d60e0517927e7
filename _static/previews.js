/* Previews: resting on a reference, or reaching it with the tab key, shows what it points to.
 * Escape closes; the pointer may move into the card. The pieces come from previews/PAGE.js. */
(function () {
  "use strict";
  const SHOW = 250, HIDE = 200;
  const html = document.documentElement;
  const root = html.dataset.content_root || "./";
  const selector = "article a.reference[href*='#']";
  let loading = null, card = null, owner = null, timer = null, title = null;

  function load() {
    loading = loading || new Promise((resolve) => {
      const script = document.createElement("script");
      // Read here: the page says its name only after this script has run.
      script.src = root + "_static/previews/" + DOCUMENTATION_OPTIONS.pagename + ".js";
      script.onload = () => resolve(window.bookPreviews || {});
      script.onerror = () => resolve({});
      document.head.append(script);
    });
    return loading;
  }

  function hide() {
    clearTimeout(timer);
    if (!owner) return;
    owner.removeAttribute("aria-describedby");
    if (title !== null) owner.setAttribute("title", title);
    card.remove();
    card = owner = title = null;
  }

  function place() {
    const at = owner.getBoundingClientRect();
    const width = html.clientWidth, height = html.clientHeight;
    const left = Math.max(8, Math.min(at.left, width - card.offsetWidth - 8));
    const below = at.bottom + card.offsetHeight + 8 <= height || at.top < card.offsetHeight;
    const top = below ? at.bottom + 6 : at.top - card.offsetHeight - 6;
    card.style.left = left + window.scrollX + "px";
    card.style.top = top + window.scrollY + "px";
  }

  async function show(link) {
    const piece = (await load())[link.getAttribute("href")];
    if (owner === link || waitingFor !== link) return;
    hide();
    if (!piece) return;
    owner = link;
    card = document.createElement("div");
    card.id = "book-preview";
    card.setAttribute("role", "tooltip");
    card.innerHTML = piece.replaceAll("@root@", root);
    document.body.append(card);
    title = link.getAttribute("title"); // the browser's own tip would lie over the card
    link.removeAttribute("title");
    link.setAttribute("aria-describedby", card.id);
    place();
    const shown = card;
    if (window.MathJax && MathJax.typesetPromise) await MathJax.typesetPromise([shown]);
    if (card === shown) place();
  }

  let waitingFor = null;
  function enter(link, delay) {
    clearTimeout(timer);
    waitingFor = link;
    if (link !== owner) timer = setTimeout(() => show(link), delay);
  }
  function leave() {
    clearTimeout(timer);
    waitingFor = null;
    timer = setTimeout(hide, HIDE);
  }

  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch") return;
    const link = event.target.closest(selector);
    if (link) enter(link, SHOW);
    else if (card && card.contains(event.target)) clearTimeout(timer);
    else if (owner ? document.activeElement !== owner : waitingFor) leave();
  });
  document.addEventListener("focusin", (event) => {
    const link = event.target.closest(selector);
    if (link && link.matches(":focus-visible")) enter(link, 0);
    else if (owner) leave();
  });
  document.addEventListener("focusout", (event) => { if (event.target === owner) leave(); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { waitingFor = null; hide(); }
  });
  document.addEventListener("click", hide);
  window.addEventListener("resize", hide);

  /* A claim that the address names is opened; paper shows everything. */
  function open() {
    const named = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const box = named && named.closest("details");
    if (box) box.open = true;
  }
  window.addEventListener("hashchange", open);
  document.addEventListener("DOMContentLoaded", open);
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((box) => { box.open = true; });
  });
})();
