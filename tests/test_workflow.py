"""The publishing workflow is a valid workflow and calls what a reader calls."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

WORKFLOW = Path(__file__).parents[1] / ".github/workflows/book.yml"


def test_the_workflow_fits_the_schema():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    subprocess.run([*command, "vendor.github-workflows", WORKFLOW], check=True)


def test_the_workflow_runs_the_same_checks_as_everybody():
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["build"]["steps"]
    assert "bash .ci/run" in [step.get("run") for step in steps]


def test_actions_are_pinned_by_commit():
    used = re.findall(r"uses: (\S+)", WORKFLOW.read_text())
    assert used and all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in used)
