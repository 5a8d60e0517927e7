"""How the checks of what was built end: each fault on a line of its own, and an exit status."""

import sys

__all__ = ["report"]


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
