"""Directives of the reproducibility page.

```{locked-versions}     the versions of the main packages, from requirements.lock
```{audit-results}       what the slow checks of `make audit` counted when they last ran
"""

import json
from pathlib import Path

from sphinx.util.docutils import SphinxDirective
from tabulate import tabulate

MAIN = (
    "torch numpy scipy scikit-learn xarray matplotlib sympy mpmath jupyter-book sphinx myst-nb "
    "jupytext nbval pytest hypothesis"
)


def versions(lock):
    """The main packages' locked versions."""
    pins = dict(line.split("==") for line in lock.splitlines() if "==" in line)
    return [("package", "version"), *((name, pins[name]) for name in MAIN.split())]


def audit(text):
    """What the slow checks counted, one row a check."""
    told = {
        name: ", ".join(f"{what}: {count}" for what, count in found.items())
        for name, found in json.loads(text).items()
    }
    return [("check", "result"), *told.items()]


#: directive -> file, how it is shown
SHOWN = {
    "locked-versions": ("requirements.lock", versions),
    "audit-results": ("results/audit.json", audit),
}


class FromFile(SphinxDirective):
    """What a file holds."""

    def run(self):
        file, render = SHOWN[self.name]
        path = Path(self.env.srcdir, file)
        self.env.note_dependency(str(path))
        rows = render(path.read_text())
        return self.parse_text_to_nodes(tabulate(rows, "firstrow", "github", disable_numparse=True))


def setup(app):
    """Register the directives."""
    for name in SHOWN:
        app.add_directive(name, FromFile)
    return {"parallel_read_safe": True}
