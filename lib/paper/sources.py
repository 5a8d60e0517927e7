"""What a source file means: its syntax tree without comments, docstrings and layout."""

import ast
from typing import Any

__all__ = ["meaning"]


def meaning(source: str) -> str:
    """The syntax tree as text, the same under every version of Python; docstrings left out.

    Empty fields are left out too: versions differ in which of them a tree has.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]

    def text(value: Any) -> str:
        if isinstance(value, ast.AST):
            fields = [(name, v) for name, v in ast.iter_fields(value) if v not in (None, [])]
            return f"{type(value).__name__}({', '.join(f'{name}={text(v)}' for name, v in fields)})"
        return f"[{', '.join(map(text, value))}]" if isinstance(value, list) else ascii(value)

    return text(tree)
