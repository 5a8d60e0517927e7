"""nbval with corrections: numbers within a tolerance, no images, cells with history.

Imported by `conftest.py`, which thereby changes nbval for the whole test run.
"""

from pathlib import Path

from nbval import kernel, plugin

from notebooks import CHAPTERS, comparable
from numeric_comparison import snap_outputs

_init = plugin.IPyNbFile.__init__
_compare = plugin.IPyNbCell.compare_outputs
_setup = plugin.IPyNbFile.setup


def _as_dictionaries(outputs):
    from nbformat import from_dict

    return [from_dict(output) for output in comparable(outputs)]


def compare_outputs(self, test, ref, skip_compare=None):
    """nbval's comparison after images are left out and close numbers are made equal."""
    test, ref = _as_dictionaries(test), _as_dictionaries(ref)
    snap_outputs(test, ref)
    return _compare(self, test, ref, skip_compare)


def execute_cell_input(self, source, allow_stdin=None):
    """With history, so that a trailing semicolon silences a cell as it does in Jupyter."""
    return self.kc.execute(source, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)


class _KernelInChapterFolder(kernel.RunningKernel):
    """Runs where the chapter lies, not where the assembled notebook does."""

    def __init__(self, name, cwd=None, startup_timeout=60):
        for parent in Path(cwd).parents:
            if parent.name == "nbval":
                cwd = str(CHAPTERS / Path(cwd).relative_to(parent))
                break
        else:
            if Path(cwd).name == "nbval":
                cwd = str(CHAPTERS)
        super().__init__(name, cwd, startup_timeout)


def install():
    """Change nbval."""
    plugin.IPyNbCell.compare_outputs = compare_outputs
    plugin.RunningKernel = _KernelInChapterFolder
    kernel.RunningKernel.execute_cell_input = execute_cell_input
