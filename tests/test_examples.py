"""Every public name has a docstring with an example that runs and prints what it says."""

import doctest
import inspect

import pytest

import learning_dynamics
from learning_dynamics import saddles, scales

PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (learning_dynamics, saddles, scales)
    for name in module.__all__
}
#: Values, not functions or classes; their modules' comments say what they hold.
TABLES = {"learning_dynamics.scales.PRINTED", "learning_dynamics.scales.SCHEMES"}


def run_example(name, runner=doctest.DocTestRunner):
    """What differs from the printed output, in words."""
    thing, said = PUBLIC[name], []
    globs = vars(inspect.getmodule(inspect.unwrap(thing))).copy()
    example = doctest.DocTestParser().get_doctest(inspect.getdoc(thing), globs, name, None, 0)
    assert example.examples, f"{name}: no example"
    runner(verbose=False).run(example, out=said.append, clear_globs=False)
    return "".join(said)


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - TABLES))
def test_example(name):
    assert run_example(name) == ""


def test_no_more_names_than_a_reader_can_hold():
    assert len(PUBLIC) <= 57
