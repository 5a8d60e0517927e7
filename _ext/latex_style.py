"""How the printed book looks: fonts, title page, theorem boxes, parts. The TeX is `book_style.tex`.

Sphinx would make chapters of the landing page's sections, and so shift every number of the printed
book against the website; here they become plain headings. The parts of `_toc.yml` become parts. The pages
of the API stay on the website: a quarter of the book's pages, which nobody reads on paper.
"""

from pathlib import Path

import yaml
from docutils import nodes
from sphinx import addnodes

STYLE = Path(__file__).with_name("book_style.tex")
WEBSITE_ONLY = "api/"


def _macros(config):
    r"""The website's macros as LaTeX: `\providecommand` first, as a predefined name is no error."""
    table = config.mathjax3_config["tex"]["macros"]
    define = r"\providecommand{{\{0}}}{{}}\renewcommand{{\{0}}}{{{1}}}"
    return "\n".join(define.format(name, body) for name, body in table.items())


def _configure(app, config):
    parts = dict(part.split("\n", 1) for part in STYLE.read_text().split("%%% ")[1:])
    known = {"preamble": "", **config.latex_elements}
    preamble = "\n".join([_macros(config), known["preamble"], parts["preamble"]])
    config.latex_elements = {**known, **parts, "preamble": preamble}


def _latex(text):
    return nodes.raw("", text, format="latex")


def first_chapters(toc):
    """Docname of the first chapter of each part -> caption of the part."""
    return {part["chapters"][0]["file"]: part["caption"] for part in toc["parts"]}


def _arrange(app, doctree, docname):
    """Before LaTeX is written: no API, the landing page without chapters, parts before chapters."""
    if app.builder.name != "latex" or docname != app.config.root_doc:
        return
    _leave_out(doctree, WEBSITE_ONLY)
    # Sections of other files cannot be told by their parents: Sphinx leaves those as they were.
    files = list(doctree.findall(addnodes.start_of_file))
    theirs = {id(section) for file in files for section in file.findall(nodes.section)}
    top, *landing = [n for n in doctree.findall(nodes.section) if id(n) not in theirs]
    for section in reversed(landing):
        _flatten(section)
    top.insert(0, _latex("\\chapter*{In brief}\\addcontentsline{toc}{chapter}{In brief}"))
    captions = first_chapters(yaml.safe_load((Path(app.srcdir) / "_toc.yml").read_text()))
    for file in files:
        if caption := captions.get(file["docname"]):
            file.parent.insert(file.parent.index(file), _latex(part_heading(caption)))


def _leave_out(doctree, folder):
    """Drop a folder's pages; links to them become their text."""
    for file in list(doctree.findall(addnodes.start_of_file)):
        if file["docname"].startswith(folder) and file.parent is not None:
            file.parent.remove(file)
    for link in list(doctree.findall(nodes.reference)):
        if link.get("refuri", "").startswith(f"%{folder}"):
            link.replace_self(link.children)


def part_heading(caption):
    """LaTeX: "Part I: Name" is a numbered part, as on the site; other captions carry no number."""
    kind, _, name = caption.partition(":")
    if kind.startswith("Part ") and name:
        return f"\\part{{{name.strip()}}}"
    return f"\\part*{{{caption}}}\\addcontentsline{{toc}}{{part}}{{{caption}}}"


def _flatten(section):
    """A section becomes a heading and what stood in it; its labels stay."""
    heading = nodes.rubric("", section[0].astext(), ids=list(section["ids"]))
    place = section.parent.index(section)
    section.parent[place : place + 1] = [heading, *section.children[1:]]


def setup(app):
    """Connect to Sphinx."""
    app.connect("doctree-resolved", _arrange)
    app.connect("config-inited", _configure, priority=200)
    return {"parallel_read_safe": True}
