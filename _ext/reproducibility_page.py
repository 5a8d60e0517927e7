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
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "xarray",
    "matplotlib",
    "sympy",
    "mpmath",
    "jupyter-book",
    "sphinx",
    "myst-nb",
    "jupytext",
    "nbval",
    "pytest",
    "hypothesis",
)


def versions(lock):
    """Markdown: a table of the main packages' locked versions."""
    pins = dict(line.split("==") for line in lock.splitlines() if "==" in line)
    rows = [f"| {name} | {pins[name]} |" for name in MAIN if name in pins]
    return "\n".join(["| package | version |", "| --- | --- |", *rows])


def times(record):
    """Markdown: a table of recorded times."""
    rows = [f"| {row['what']} | {row['seconds']} s |" for row in record["times"]]
    told = (
        f"Measured on {record['machine']}, Python {record['python']}, with a mean load of "
        f"{record['load']} during the last quarter of an hour."
    )
    return "\n".join(["| command | time |", "| --- | --- |", *rows, "", told])


def audit(record):
    """Markdown: a table of what the slow checks counted, one row a check."""
    rows = [
        f"| {name} | {', '.join(f'{what}: {count}' for what, count in found.items())} |"
        for name, found in record.items()
    ]
    return "\n".join(["| check | result |", "| --- | --- |", *rows])


class _FromFile(SphinxDirective):
    file, render, absent = "", None, ""

    def run(self):
        path = Path(self.env.srcdir) / self.file
        self.env.note_dependency(str(path))
        text = type(self).render(path.read_text()) if path.exists() else self.absent
        node = nodes.container()
        lines = StringList(text.splitlines(), source=self.get_source_info()[0])
        self.state.nested_parse(lines, self.content_offset, node)
        return node.children


class LockedVersions(_FromFile):
    """Versions from the lock."""

    file, render = "requirements.lock", staticmethod(versions)


class BuildTimes(_FromFile):
    """Times from the record."""

    file, render = "results/build_times.json", staticmethod(lambda text: times(json.loads(text)))
    absent = "Not recorded yet: `python _ext/measure_build.py` measures them from a fresh clone."


class AuditResults(_FromFile):
    """Counts from the record."""

    file, render = "results/audit.json", staticmethod(lambda text: audit(json.loads(text)))
    absent = "Not recorded yet: `make audit` runs the slow checks and records what they count."


def setup(app):
    """Register the directives."""
    app.add_directive("audit-results", AuditResults)
    app.add_directive("locked-versions", LockedVersions)
    app.add_directive("build-times", BuildTimes)
    return {"parallel_read_safe": True}
