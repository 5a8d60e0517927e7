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


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - TABLES))
def test_example(name):
    thing = PUBLIC[name]
    text = inspect.getdoc(thing)
    module = inspect.getmodule(inspect.unwrap(thing))
    example = doctest.DocTestParser().get_doctest(text, vars(module).copy(), name, None, 0)
    assert example.examples, "no example"
    said = []
    doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert not said, "".join(said)


def test_no_more_names_than_a_reader_can_hold():
    assert len(PUBLIC) <= 55
