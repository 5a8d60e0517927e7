"""The publishing workflow is a valid workflow and calls what a reader calls."""

import subprocess
import sys
from pathlib import Path

import yaml

WORKFLOW = Path(__file__).parents[1] / ".github/workflows/book.yml"


def check(path: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.github-workflows",
            str(path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_workflow_fits_the_schema():
    done = check(WORKFLOW)
    assert done.returncode == 0, done.stdout


def test_the_schema_refuses_a_broken_workflow(tmp_path):
    broken = tmp_path / "book.yml"
    broken.write_text(WORKFLOW.read_text().replace("runs-on", "run-on"))
    assert check(broken).returncode != 0


def test_the_workflow_runs_the_same_checks_as_everybody():
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["build"]["steps"]
    assert "bash .ci/run" in [step.get("run") for step in steps]
