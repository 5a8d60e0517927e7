"""The single-page site printed by Chromium: a tagged PDF, which a screen reader can follow.

    python _ext/tagged_pdf.py _build/singlehtml _build/tagged/learning_dynamics.pdf

Adds a title page, contents and parts to the page, prints it with `_static/print.css`, and complains
when the file is not tagged, lacks an outline or a formula was not typeset.
"""

import re
import sys
from pathlib import Path

import yaml

from browser import open_page, site_browser
from check_browser import formula_problems
from faults import report
from latex_style import first_chapters

__all__ = ["file_problems", "print_book"]

TOC = Path(__file__).resolve().parent.parent / "_toc.yml"
SINGLE = "chapters/index.html"
SUBTITLE = "From saddle to saddle, and at every scale"
AUTHOR = "The learning_dynamics contributors"

#: In the page: what print needs and the website does not.
ARRANGE = """
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
    const part = list.querySelector(":scope > .book-part");
    if (part) entry(top, part, part.id).style.fontWeight = "bold";
    list.querySelectorAll(":scope > section").forEach((chapter) => {
      const item = entry(top, chapter.querySelector("h1, h2"), chapter.id);
      const inner = add(item, "ol");
      chapter.querySelectorAll(":scope > section").forEach((section) => {
        section.dataset.target = `book-section-${number++}`;  // ids repeat from chapter to chapter
        const heading = section.querySelector("h2, h3");
        heading.id = section.dataset.target;
        entry(inner, heading, heading.id);
      });
    });
  });
  article.prepend(front);
}
"""
FOOTER = (
    '<div style="font: 8pt Helvetica, Arial, sans-serif; width: 100%; text-align: center">'
    '<span class="pageNumber"></span></div>'
)
MARGIN = {"top": "24mm", "bottom": "22mm", "left": "26mm", "right": "26mm"}
EAGER = "() => Promise.all([...document.images].map((i) => i.decode().catch(() => null)))"


def _print(page, target):
    """What the page says when it is arranged and printed to `target`: faults of its formulas."""
    toc = yaml.safe_load(TOC.read_text(encoding="utf8"))
    page.evaluate(ARRANGE, [SUBTITLE, AUTHOR, list(first_chapters(toc).values())])
    page.evaluate(EAGER)
    page.emulate_media(media="print")
    found = formula_problems(page)
    target.parent.mkdir(parents=True, exist_ok=True)
    page.pdf(
        path=str(target),
        format="A4",
        margin=MARGIN,
        tagged=True,
        outline=True,
        print_background=True,
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=FOOTER,
    )
    return found


def at_the_root(site):
    """The single page, moved to where its addresses are right: Sphinx counts them from the root."""
    page = Path(site) / "book.html"
    text = (Path(site) / SINGLE).read_text(encoding="utf8")
    page.write_text(text.replace(f'href="{SINGLE}#', 'href="#'), encoding="utf8")
    return page


def print_book(site, target):
    """Print the book; the faults that were seen on the way.

    Raises FileNotFoundError if there is no single-page site, or no browser.
    """
    if not (Path(site) / SINGLE).exists():
        raise FileNotFoundError(f"{site} holds no single-page site")
    target = Path(target)
    with site_browser() as browser:
        page = open_page(browser, at_the_root(site), seconds=900)
        return _print(page, target) + file_problems(target.read_bytes())


def file_problems(pdf):
    """What a PDF of Chromium lacks to be read aloud; its structure is not compressed."""
    wanted = {
        "it is not marked as tagged": rb"/MarkInfo\s*<<[^>]*/Marked\s+true",
        "it has no structure": rb"/StructTreeRoot\s+\d+ 0 R",
        "it names no language": rb"/Lang\s*[(<]",
        "it has no outline": rb"/Outlines\s+\d+ 0 R",
        "it has no title": rb"/Title\s*[(<]",
        "it has no headings": rb"/S\s*/H2\b",
        "its figures have no alternative text": rb"/Alt\s*[(<]",
    }
    return [f"tagged PDF: {fault}" for fault, sign in wanted.items() if not re.search(sign, pdf)]


def main(site, target):
    """Print, then say what is wrong; 1 if anything is."""
    return report(print_book, site, target)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
