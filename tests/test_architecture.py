"""The shape of the package: who may import whom, how long a file may be, what a module states."""

import ast
import importlib
from pathlib import Path

import pytest

PACKAGE = "learning_dynamics"
LIB = Path(__file__).parent.parent / "lib" / PACKAGE
MODULES = sorted(LIB.rglob("*.py"))
WINGS = ("saddles", "scales")
#: Which rooms a room may import, besides itself; the ground floor is everything outside rooms.
ALLOWED = {
    "ground": set(),
    "kernels": {"ground", "saddles"},
    "saddles": {"ground", "kernels"},
    "scales": {"ground"},
    "experiments": {"ground", "saddles", "scales"},
    "figures": {"ground", "saddles", "scales", "experiments"},
    "top": {"ground", "saddles", "scales", "experiments", "figures"},
}
#: Modules that stand above the wings.
TOP = {"__main__", "ledger"}
FORBIDDEN_IN_WINGS = {"matplotlib", "tqdm", "IPython", "plotly"}


def name_of(path):
    return ".".join(path.relative_to(LIB).with_suffix("").parts)


def room(module):
    """The room of a dotted name below the package."""
    first = module.split(".")[0]
    if first in TOP:
        return "top"
    return first if first in ALLOWED else "ground"


def imports(tree):
    """Dotted names that a module imports at its top level or anywhere else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def trespasses(name, source):
    """Imports of a module that its room does not allow."""
    own = room(name)
    for target in imports(ast.parse(source)):
        if target.startswith(PACKAGE + "."):
            other = room(target.removeprefix(PACKAGE + "."))
            if other != own and other not in ALLOWED[own]:
                yield target


@pytest.mark.parametrize("path", MODULES, ids=name_of)
class TestEachModule:
    def test_imports_only_from_below(self, path):
        assert not list(trespasses(name_of(path), path.read_text()))

    def test_is_short(self, path):
        assert len(path.read_text().splitlines()) <= 300

    def test_has_a_docstring(self, path):
        assert ast.get_docstring(ast.parse(path.read_text()))

    def test_states_what_is_public(self, path):
        if path.name in ("__init__.py",):
            return
        tree = ast.parse(path.read_text())
        assigned = [
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        ]
        assert "__all__" in assigned
        module = importlib.import_module(f"{PACKAGE}.{name_of(path)}")
        assert all(hasattr(module, name) for name in module.__all__)

    def test_public_functions_have_docstrings(self, path):
        tree = ast.parse(path.read_text())
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize(
    "path", [p for p in MODULES if room(name_of(p)) in WINGS], ids=name_of
)
def test_wings_do_not_plot_print_or_touch_files(path):
    tree = ast.parse(path.read_text())
    assert not {target.split(".")[0] for target in imports(tree)} & FORBIDDEN_IN_WINGS
    called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert not called & {"print", "open", "input"}


def test_the_rule_sees_a_trespass():
    source = "from learning_dynamics.scales import orders\nimport learning_dynamics.runtime\n"
    assert set(trespasses("saddles.units", source)) == {
        "learning_dynamics.scales", "learning_dynamics.scales.orders"
    }
    assert not list(trespasses("experiments.meeting", source))
