// Run in the single page: what print needs and the website does not.
([subtitle, author, parts]) => {
  const article = document.querySelector("article.bd-article");
  const add = (parent, tag, kind, text) => {
    const node = document.createElement(tag);
    if (kind) node.className = kind;
    if (text) node.textContent = text;
    parent.append(node);
    return node;
  };
  document.querySelectorAll("details").forEach((d) => { d.open = true; });
  document.querySelectorAll(".toggle-hidden").forEach((d) => d.classList.remove("toggle-hidden"));
  document.querySelectorAll("img").forEach((image) => { image.loading = "eager"; });
  document.querySelectorAll("h1, h2, h3, h4, h5, h6").forEach((heading) =>
    heading.querySelectorAll(".headerlink").forEach((link) => link.remove()));
  const clean = (heading) => heading.textContent.trim();

  // A part before the first chapter of each list of chapters that has a caption.
  document.querySelectorAll("article .toctree-wrapper").forEach((list, i) => {
    if (!parts[i]) return;
    const part = document.createElement("h2");
    part.className = "book-part";
    part.id = `book-part-${i}`;
    part.textContent = parts[i];
    list.querySelectorAll(":scope > p.caption").forEach((caption) => caption.remove());
    list.prepend(part);
  });

  const front = document.createElement("div");
  const title = add(front, "div", "book-title");
  add(title, "p", "book-name", clean(document.querySelector("article h1")));
  add(title, "p", "book-subtitle", subtitle);
  add(title, "p", "", author);
  const contents = add(front, "nav", "book-contents");
  contents.setAttribute("aria-label", "Contents");
  add(contents, "h2", "", "Contents");
  const top = add(contents, "ol");
  const entry = (list, heading, target) => {
    const item = add(list, "li");
    add(item, "a", "", clean(heading)).href = `#${target}`;
    return item;
  };
  let number = 0;
  document.querySelectorAll("article .toctree-wrapper").forEach((list) => {
    if (list.parentElement.closest(".toctree-wrapper")) return;  // pages below a chapter
    const part = list.querySelector(":scope > .book-part");
    if (part) entry(top, part, part.id).style.fontWeight = "bold";
    list.querySelectorAll(":scope > section").forEach((chapter) => {
      const item = entry(top, chapter.querySelector("h1, h2"), chapter.id);
      const inner = add(item, "ol");
      chapter.querySelectorAll(":scope > section").forEach((section) => {
        section.dataset.target = `book-section-${number++}`;  // ids repeat from chapter to chapter
        const heading = section.querySelector("h2, h3");
        if (!heading) return;
        heading.id = section.dataset.target;
        entry(inner, heading, heading.id);
      });
    });
  });
  article.prepend(front);
}
