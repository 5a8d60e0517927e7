"""The API: pages in `api/`, written before Sphinx looks for pages; one for each package and module.

A package's page lists its public names, each a link to the page of its module. The docstrings are
contracts in plain text: `name : meaning` lines, aligned, with formulas such as |f - y|^2 that
reStructuredText would misread. They are shown as written: prose as paragraphs with code in
backticks, contract lines verbatim.
"""

import inspect
import re
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

PACKAGE = "learning_dynamics"
_CONTRACT = re.compile(r"^ |^>>> |^\S[^:]{0,60} : ", re.M)


def _prose(text):
    """A paragraph: `code` becomes literal, set apart by `\\ `; special characters plain."""
    parts = re.split(r"`+([^`]+)`+", " ".join(text.split()))
    parts[::2] = [re.sub(r"([\\*|_<>])", r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [rf"\ ``{part}``\ " for part in parts[1::2]]
    return "".join(parts).strip()


def render(lines):
    """A docstring's lines as reStructuredText lines."""
    shown = []
    for paragraph in filter(str.strip, re.split(r"\n\s*\n", "\n".join(lines))):
        if shown and _CONTRACT.search(paragraph):
            shown += ["::", "", *(f"   {line}" for line in paragraph.strip("\n").split("\n")), ""]
        else:
            shown += [_prose(paragraph), ""]
    return shown


def _name(module, name):
    """An item of a package's list: a link, where the name has a docstring of its own."""
    item = getattr(module, name)
    if not (inspect.isfunction(item) or inspect.isclass(item)) or not item.__doc__:
        return f"* `{name}`"
    first = _prose(item.__doc__.split("\n\n")[0])
    return f"* :py:obj:`{name} <{item.__module__}.{name}>`: {first}"


def page(name):
    """The page of a module or package, in Markdown; of a package the public names alone."""
    module, text = import_module(name), [f".. automodule:: {name}"]
    if hasattr(module, "__path__"):
        text += ["   :no-members:", "", *(_name(module, one) for one in module.__all__)]
    return "\n".join([f"# {name.partition('.')[2]}", "", "```{eval-rst}", *text, "```", ""])


def _write(app, config):
    folder = Path(app.srcdir, "api")
    top = import_module(PACKAGE)
    wanted = {}
    for _, name, is_package in walk_packages(top.__path__, f"{PACKAGE}."):
        if hasattr(import_module(name), "__all__"):
            wanted[folder / ("packages" if is_package else "modules") / f"{name}.md"] = page(name)
    for path in {*folder.rglob("*.md")} - {*wanted}:
        path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf8") != text:
            path.write_text(text, encoding="utf8")


def _docstring(app, what, name, obj, options, lines):
    lines[:] = render(lines)


def setup(app):
    """Connect to Sphinx, before the table of contents is read."""
    app.connect("config-inited", _write, priority=100)
    app.connect("autodoc-process-docstring", _docstring)
    return {"parallel_read_safe": True}
