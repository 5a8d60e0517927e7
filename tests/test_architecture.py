"""The shape of the packages: who may import whom, no circle, what a module states."""

import ast
import graphlib
import importlib
from pathlib import Path

import pytest

LIB = Path(__file__).parent.parent / "lib"
MODULES = sorted(LIB.rglob("*.py"))
LIBRARY, PAPER = "learning_dynamics", "paper"
#: Which rooms of the library a room may import, besides itself; the ground floor is everything
#: outside rooms. The paper may import every room, and no room the paper.
ALLOWED = {
    "ground": set(),
    "data": {"ground"},
    "kernels": {"ground"},
    "saddles": {"ground", "data", "kernels"},
    "scales": {"ground", "data", "kernels"},
    "paper": {"ground", "data", "kernels", "saddles", "scales"},
}
FORBIDDEN_IN_LIBRARY = {"matplotlib", "IPython", "plotly"}


def name_of(path):
    """The dotted name of a module; a package is named without its `__init__`."""
    return ".".join(path.relative_to(LIB).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path): path for path in MODULES}


def room(module):
    """The room of a dotted name, None if it is neither the library's nor the paper's."""
    package, _, rest = module.partition(".")
    if package == PAPER:
        return "paper"
    first = rest.split(".")[0]
    return None if package != LIBRARY else first if first in ALLOWED else "ground"


def imports(tree):
    """Dotted names that a module imports at its top level or anywhere else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def trespasses(name, source):
    """Imports of a module that its room does not allow; the package itself opens the wings."""
    own = room(name)
    for target in imports(ast.parse(source)):
        other = room(target)
        if name != LIBRARY and other not in (None, own) and other not in ALLOWED[own]:
            yield target


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_below_and_says_what_is_public(path):
    source, kinds = path.read_text(), ast.FunctionDef | ast.ClassDef
    assert not list(trespasses(name_of(path), source))
    if path.name != "__init__.py":
        module = importlib.import_module(name_of(path))
        assert all(hasattr(module, name) for name in module.__all__)
    tree = ast.parse(source)
    public = [n for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_")]
    for node in (tree, *public):
        assert ast.get_docstring(node), f"{getattr(node, 'name', path.name)} has no docstring"
    if room(name_of(path)) != "paper":  # the library neither plots nor prints
        assert not {target.split(".")[0] for target in imports(tree)} & FORBIDDEN_IN_LIBRARY
        calls = (n.func for n in ast.walk(tree) if isinstance(n, ast.Call))
        assert not {getattr(function, "id", "") for function in calls} & {"print", "input"}


def test_no_circle():
    """Imports inside functions count: they hide circles."""
    graph = {}
    for name, path in NAMES.items():
        needed = NAMES.keys() & {*imports(ast.parse(path.read_text()))} - {name}
        # Who imports a module names its package as well, and does not need it.
        graph[name] = {n for n in needed if not any(m.startswith(f"{n}.") for m in needed)}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError and shows the circle


def test_the_rule_sees_a_trespass():
    source = "from learning_dynamics.scales import orders\nimport learning_dynamics.runtime\n"
    found = set(trespasses("learning_dynamics.saddles.theory.stages", source))
    assert found == {"learning_dynamics.scales", "learning_dynamics.scales.orders"}
    assert list(trespasses("learning_dynamics.problems", "import paper.claims\n"))
    assert not list(trespasses("paper.together.stages", source))
