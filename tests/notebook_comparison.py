"""nbval with corrections: numbers within a tolerance, no images, cells with history, cleared output.

Imported by `conftest.py`, which thereby changes nbval for the whole test run, and by the
`conftest.py` beside the assembled notebooks, so that nbval can be run on these alone.
"""

from functools import cache
from pathlib import Path

from nbformat import from_dict
from nbval import kernel, plugin

from notebooks import CHAPTERS, CLEARED, ROOT, built, comparable, snapped, state

_compare = plugin.IPyNbCell.compare_outputs
SHOWING = ("stream", "display_data", "execute_result", "error")


def compare_outputs(self, test, ref, skip_compare=None):
    """nbval's comparison after images are left out and numbers that agree are made equal."""
    test, ref = comparable(test), comparable(ref)
    test = snapped(test, ref, self.cell)
    return _compare(
        self, *([from_dict(o) for o in outputs] for outputs in (test, ref)), skip_compare
    )


def execute_cell_input(self, source, allow_stdin=None):
    """With history, so that a trailing semicolon silences a cell as it does in Jupyter."""
    return self.kc.execute(source, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)


def _beside(path):
    """Where the chapter lies of what lies in a folder `nbval`; anything else where it is."""
    _, inside, rest = f"{path}/".rpartition("/nbval/")
    return CHAPTERS / rest if inside else Path(path)


code_state = cache(lambda: state(ROOT))


def pytest_ignore_collect(collection_path):
    """What `make book` executed with this code is not executed again: `test_notebooks.py` compares it.

    A notebook that is named on the command line is executed.
    """
    chapter = _beside(collection_path).with_suffix(".md")
    done = collection_path.suffix == ".ipynb" and built(chapter, digest=code_state())
    return True if done else None


class _Kernel(kernel.RunningKernel):
    """Runs where the chapter lies, not where the assembled notebook does; says what was cleared."""

    def __init__(self, name, cwd=None, startup_timeout=60):
        cwd = cwd and str(_beside(cwd))
        self.waiting, self.later = False, []
        super().__init__(name, cwd, startup_timeout)

    def get_message(self, stream, timeout=None):
        """A message; for nbval, which does not know it, clearing is a text like any other.

        With `wait` an output is cleared by the next one, if there is one.
        """
        message = self.later.pop() if self.later else super().get_message(stream, timeout)
        kind, cleared = message["msg_type"], {"name": "stdout", "text": CLEARED}
        if kind == "clear_output":
            self.waiting = message["content"]["wait"]
            text = "" if self.waiting else CLEARED
            return {**message, "msg_type": "stream", "content": {**cleared, "text": text}}
        if kind == "status":
            self.waiting = False
        if self.waiting and kind in SHOWING:
            self.waiting = False
            self.later.append(message)
            return {**message, "msg_type": "stream", "content": cleared}
        return message


def install():
    """Change nbval."""
    plugin.IPyNbCell.compare_outputs = compare_outputs
    plugin.RunningKernel = _Kernel
    kernel.RunningKernel.execute_cell_input = execute_cell_input
