"""Which functions of the package, and which records, a figure of a chapter comes from.

Read from the chapter's code cells alone: a figure's cell calls functions and uses variables; these
were assigned from other functions. Nothing is executed.
"""

import ast
from pathlib import Path
from typing import NamedTuple

import yaml

from dependencies import PACKAGES, cells_with_options, record_files

__all__ = ["Source", "figure_sources"]

#: Parts of the package that say how a book looks or is seeded, not where a figure comes from.
LEFT_OUT = ("paper.figures.style", "learning_dynamics.runtime", "paper.records", "paper.store")
DRAWING = "paper.figures."


class Source(NamedTuple):
    """What a figure comes from: functions as (module, name), and paths of records."""

    drawn_by: list
    computed_by: list
    records: list


def _cells(text):
    """(name of the figure or None, parsed code) of each code cell."""
    for options, source in cells_with_options(text):
        settings = yaml.safe_load(options) or {}
        figure = ((settings.get("mystnb") or {}).get("figure") or {}).get("name")
        yield figure, ast.parse(source)


def _module_file(root, module):
    base = Path(root, "lib", *module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _imports(node, root):
    """name in the chapter -> (module, attribute or None) for what a statement imports from the package."""
    if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(PACKAGES):
        return {}
    found = {}
    for alias in node.names:
        inner = f"{node.module}.{alias.name}"
        known = (inner, None) if _module_file(root, inner) else (node.module, alias.name)
        found[alias.asname or alias.name] = known
    return found


def _uses(statement, names, traced):
    """Functions, variables' origins and text constants that a statement draws on, in order."""
    found = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module, attribute = names.get(node.value.id, (None, ""))
            if module and attribute is None:
                found.append((module, node.attr))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if names.get(node.id, (None, None))[1]:
                found.append(names[node.id])
            found += traced.get(node.id, [])
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return list(dict.fromkeys(found))


def _assigned(statement):
    inner = {  # variables of comprehensions end with them
        name
        for node in ast.walk(statement)
        if isinstance(node, ast.comprehension)
        for name in ast.walk(node.target)
    }
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in inner
    }


def _is_source(module, name):
    return module not in LEFT_OUT and not name.isupper() and not name.startswith("_")


def _words(path, name):
    """Strings in a function of a module and in the definitions of that module that it uses."""
    defined = {}
    for node in ast.parse(path.read_text()).body:
        for own in {getattr(node, "name", None), *_assigned(node)} - {None}:
            defined.setdefault(own, node)
    words, waiting, seen = set(), [name], set()
    while waiting:
        one = waiting.pop()
        if one in seen or one not in defined:
            continue
        seen.add(one)
        for node in ast.walk(defined[one]):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
            if isinstance(node, ast.Name):
                waiting.append(node.id)
    return words


def _source(root, used):
    functions = [item for item in used if isinstance(item, tuple) and _is_source(*item)]
    drawn = [item for item in functions if item[0].startswith(DRAWING)]
    others = [item for item in functions if item not in drawn]
    experiments = [item for item in others if item[0].startswith("paper.")]
    words = {item for item in used if isinstance(item, str)}
    for module, name in (item for item in used if isinstance(item, tuple)):  # constants as well
        words |= _words(_module_file(root, module), name)
    records = [p for p in record_files(root, words) if p.parent == Path(root, "results")]
    return Source(drawn, experiments or others, [p for p in records if p.name != "claims.json"])


def figure_sources(root, text):
    """name of a figure -> Source, for the figures that the code cells of a chapter's text make."""
    root, names, traced, found = Path(root), {}, {}, {}
    for figure, tree in _cells(text):
        used = []
        for statement in tree.body:
            names |= _imports(statement, root)
            mine = _uses(statement, names, traced)
            used += [item for item in mine if item not in used]
            for name in _assigned(statement):
                old = (
                    traced.get(name, [])
                    if isinstance(statement, ast.For | ast.If | ast.AugAssign)
                    else []
                )
                traced[name] = list(dict.fromkeys([*old, *mine]))
        if figure:
            found[figure] = _source(root, used)
    return found
