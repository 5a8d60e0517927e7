"""Directives of the reproducibility page.

```{locked-versions}     the versions of the main packages, from requirements.lock
```{build-times}         times of the README's commands from a fresh clone
```{audit-results}       what the slow checks of `make audit` counted when they last ran
"""

import json
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

MAIN = (
    "torch numpy scipy scikit-learn xarray matplotlib sympy mpmath jupyter-book sphinx myst-nb "
    "jupytext nbval pytest hypothesis"
)


def _table(head, rows):
    lines = [head, " | ".join("---" for _ in head.split("|")), *rows]
    return "\n".join(f"| {line} |" for line in lines)


def versions(lock):
    """Markdown: a table of the main packages' locked versions."""
    pins = dict(line.split("==") for line in lock.splitlines() if "==" in line)
    return _table("package | version", [f"{name} | {pins[name]}" for name in MAIN.split()])


def times(text):
    """Markdown: a table of recorded times."""
    record = json.loads(text)
    rows = [f"{row['what']} | {row['seconds']} s" for row in record["times"]]
    return _table("command | time", rows) + (
        f"\n\nMeasured on {record['machine']}, Python {record['python']}, with a mean load of "
        f"{record['load']} during the last quarter of an hour."
    )


def audit(text):
    """Markdown: a table of what the slow checks counted, one row a check."""
    rows = [
        f"{name} | {', '.join(f'{what}: {count}' for what, count in found.items())}"
        for name, found in json.loads(text).items()
    ]
    return _table("check | result", rows)


#: directive -> file, how it is shown
SHOWN = {
    "locked-versions": ("requirements.lock", versions),
    "build-times": ("results/build_times.json", times),
    "audit-results": ("results/audit.json", audit),
}


class FromFile(SphinxDirective):
    """What a file holds."""

    def run(self):
        file, render = SHOWN[self.name]
        path = Path(self.env.srcdir, file)
        self.env.note_dependency(str(path))
        node = nodes.container()
        lines = StringList(render(path.read_text()).splitlines(), source=str(path))
        self.state.nested_parse(lines, self.content_offset, node)
        return node.children


def setup(app):
    """Register the directives."""
    for name in SHOWN:
        app.add_directive(name, FromFile)
    return {"parallel_read_safe": True}
