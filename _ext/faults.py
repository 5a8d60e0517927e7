"""How the checks of what was built end: each fault on a line of its own, and an exit status."""

import re
import sys

#: Text that no reader should meet: Python objects, and a zero that was printed as a rounding error.
UNREADABLE = re.compile(
    r"IPython\.core\.[\w.]+|Figure size \d+x\d+|\w+ object at 0x|\bmatplotlib\.\w+\.\w+ at |<[\w.]*Axes\b"
    r"|(?<![\d.])0(?:\.0*)?e[+-]0+\b"
)


def unreadable(text):
    """The pieces of a text that show a Python object, or a zero as 0e+00; each once."""
    return sorted(set(UNREADABLE.findall(text)))


def report(find, *arguments):
    """Print the faults that find(*arguments) returns; 1 if there is any, for the shell.

    A FileNotFoundError (nothing built, no browser) is the fault that its message names.
    """
    try:
        found = find(*arguments)
    except FileNotFoundError as error:
        found = [str(error)]
    for fault in found:
        print(fault, file=sys.stderr)
    return 1 if found else 0
