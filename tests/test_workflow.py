"""The publishing workflow is a valid workflow, pins its actions and calls what a reader calls."""

import re
import subprocess
import sys
from pathlib import Path

WORKFLOW = Path(__file__).parents[1] / ".github/workflows/book.yml"


def test_the_workflow_is_valid_and_runs_the_same_checks_as_everybody():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    subprocess.run([*command, "vendor.github-workflows", WORKFLOW], check=True)
    text = WORKFLOW.read_text()
    used = re.findall(r"uses: (\S+)", text)
    assert used and all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in used)
    assert re.search(r"run: bash \.ci/run$", text, re.M)
