/* The ledger's filter: by verdict and by words. Without this script all entries are shown. */
(function () {
  "use strict";
  const box = document.getElementById("ledger-filter");
  const entries = [...document.querySelectorAll("details.claim")];
  if (!box || !entries.length) return;
  const count = (v) => entries.filter((e) => e.dataset.verdict === v).length;
  const verdicts = [...new Set(entries.map((e) => e.dataset.verdict))];
  box.innerHTML = `<div class="controls">
    <label>verdict <select><option value="">all (${entries.length})</option></select></label>
    <label>words in the entry <input type="search" spellcheck="false"></label></div>
    <p role="status"></p>`;
  const [select, words, said] = ["select", "input", "p"].map((name) => box.querySelector(name));
  for (const v of verdicts) select.add(new Option(`${v} (${count(v)})`, v));
  const texts = entries.map((e) => e.textContent.toLowerCase());
  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    entries.forEach((entry, i) => {
      const fits = (!select.value || entry.dataset.verdict === select.value) && wanted.every((w) => texts[i].includes(w));
      entry.hidden = !fits;
      shown += fits;
    });
    said.textContent = shown === entries.length ? `All ${shown} entries.` : shown ? `${shown} of ${entries.length} entries.` : "No entry fits.";
  }
  select.addEventListener("input", filter);
  words.addEventListener("input", filter);
  filter();
  /* A link to an entry opens it, and is never hidden by the filter. */
  function open() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const entry = target && target.closest("details.claim");
    if (entry) {
      entry.hidden = false;
      entry.open = true;
      entry.scrollIntoView();
    }
  }
  window.addEventListener("hashchange", open);
  open();
})();
