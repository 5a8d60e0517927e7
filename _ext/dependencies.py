"""What a chapter depends on: the modules it imports, the data they read, the lock.

The digest of a chapter covers the import closure of its code cells within the package, read by
`ast` (comments and docstrings do not count), every data file that this code names, and the lock.
The text of the chapter is not part of it: Jupyter's cache compares the cells themselves.
"""

import ast
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "PACKAGES",
    "cells_with_options",
    "chapter_digest",
    "code_cells",
    "imported_modules",
    "record_files",
]

PACKAGES = ("learning_dynamics", "paper")
LOCK = "requirements.lock"
DATA_FOLDERS = ("results", "lib")
_CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```\s*$", re.M | re.S)
_OPTIONS = re.compile(r"\A---\n(.*?)^---\n", re.M | re.S)


def cells_with_options(text):
    """(options as YAML text, source) of each code cell of a MyST notebook, magics removed."""
    for body in _CELL.findall(text):
        options = _OPTIONS.match(body)
        lines = _OPTIONS.sub("", body).splitlines()
        kept = [line for line in lines if not re.match(r"\s*([%!]|:[\w-]+:)", line)]
        yield options[1] if options else "", "\n".join(kept)


def code_cells(text):
    """The sources of the code cells of a MyST notebook, options and magics removed."""
    return [source for _, source in cells_with_options(text)]


def _parse(source, name):
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"{name}: cannot be read as Python: {error}") from None


def _without_docstrings(tree):
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            while (
                body
                and isinstance(body[0], ast.Expr)
                and isinstance(getattr(body[0], "value", None), ast.Constant)
                and isinstance(body[0].value.value, str)
            ):
                body.pop(0)
    return tree


class _Facts(NamedTuple):
    """What matters of a parsed source: its code's digest, what it imports, the strings in it."""

    digest: bytes
    imports: frozenset
    words: frozenset


def _facts(tree, package):
    """The facts of a source without its docstrings; `package` resolves relative imports."""
    imports, words = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            imports.add(base)
            imports.update(f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
    code = hashlib.sha256(ast.dump(tree).encode()).digest()
    return _Facts(code, frozenset(imports), frozenset(words))


@cache
def _facts_of_file(path, stamp, package):
    return _facts(_without_docstrings(_parse(path.read_text(), path.name)), package)


def _module_facts(name, path):
    """The facts of a module, read anew only when its file changed."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return _facts_of_file(path, (path.stat().st_mtime_ns, path.stat().st_size), package)


def _path_of(root, module):
    """The file of a dotted module name, or None if it is not ours."""
    if module.split(".")[0] not in PACKAGES:
        return None
    base = root / "lib" / Path(*module.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def imported_modules(root, trees):
    """The import closure of parsed sources within the package: name -> path, sorted by name.

    A package's `__init__` is part of it whenever one of its modules is.
    """
    found, queue = {}, []

    def visit(facts):
        for name in facts.imports:
            parts = name.split(".")
            queue.extend(".".join(parts[: i + 1]) for i in range(len(parts)))

    for tree in trees:
        visit(_facts(tree, ""))
    while queue:
        name = queue.pop()
        if name in found:
            continue
        path = _path_of(root, name)
        if path is not None:
            found[name] = path
            visit(_module_facts(name, path))
    return dict(sorted(found.items()))


def record_files(root, words):
    """Data files that the strings of the code name: by file name or by path from the root.

    Searched in `results/` and among the package's own data; a file counts when a string equals
    its name, its stem, or a path that ends in it.
    """
    names = {Path(word).name for word in words if word and len(word) < 200 and "\0" not in word}
    files = [
        path
        for folder in DATA_FOLDERS
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
        and path.suffix not in (".py", ".pyc")
        and not {"__pycache__", "locks"} & set(path.parts)
    ]
    extra = [root / name for name in ("claims.yml",)]
    return [
        path
        for path in files + extra
        if path.is_file() and (path.name in names or path.stem in names)
    ]


def chapter_digest(root, chapter):
    """The digest of all that the chapter's code depends on, besides its own cells."""
    root = Path(root)
    cells = code_cells(Path(chapter).read_text())
    trees = [_parse(source, f"{Path(chapter).name}, cell {i}") for i, source in enumerate(cells)]
    modules = imported_modules(root, trees)
    code = {name: _module_facts(name, path) for name, path in modules.items()}
    digest = hashlib.sha256()

    def add(label, data):
        digest.update(label.encode() + b"\0" + data)

    words = set().union(*(_facts(tree, "").words for tree in trees))
    for name, facts in code.items():
        add(name, facts.digest)
        words |= facts.words
    for path in record_files(root, words):
        add(path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).digest())
    lock = root / LOCK
    add(LOCK, hashlib.sha256(lock.read_bytes() if lock.is_file() else b"").digest())
    return digest.hexdigest()[:16]
