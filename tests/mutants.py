"""Break the formula behind each claim and see its verdict change.

    python tests/mutants.py [claim ...] [--jobs 2] [--seconds 300]

`tests/mutants.yml` says what is broken, one place per claim. The broken package lives in a folder
of its own, first on the path of a fresh process; the working tree is never touched. A mutant is
*killed* if the short measurement then gives another verdict than the recorded one, *refused* if
the package itself stops with a ValueError that says why, *broken* if it crashes in any other way,
*endless* if it has not ended after so many seconds (both prove nothing), and *alive* otherwise.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("lib")
GOOD = ("killed", "refused")
SECONDS = 300  # a short measurement takes ten on an idle core, imports included
MEASURE = """
import json, sys, torch
from pathlib import Path
torch.set_num_threads(1)
import learning_dynamics
from paper.claims import measure, read_claims, verdict
assert learning_dynamics.__file__.startswith(sys.argv[1]), learning_dynamics.__file__
claim = next(c for c in read_claims(Path(sys.argv[1]) / "claims.yml") if c.id == sys.argv[2])
try:
    print(json.dumps({"verdict": verdict(claim, measure(claim, quick=True))}))
except ValueError as error:
    print(json.dumps({"refused": str(error)}))
"""


def mutants():
    """The table: dicts with claim, file, old and new."""
    return yaml.safe_load((ROOT / "tests" / "mutants.yml").read_text(encoding="utf8"))


def recorded_verdicts():
    """Claim -> verdict in the ledger."""
    record = json.loads((ROOT / "results" / "claims.json").read_text(encoding="utf8"))
    return {entry["id"]: entry["verdict"] for entry in record["claims"]}


def break_copy(mutant, folder):
    """A copy of the package, records and claims in `folder`, broken as `mutant` says."""
    shutil.copytree(ROOT / "lib", folder / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "results", folder / "results")
    shutil.copy(ROOT / "claims.yml", folder)
    path = folder / PACKAGE / mutant["file"]
    text = path.read_text(encoding="utf8")
    if text.count(mutant["old"]) != 1:
        raise ValueError(f"{mutant['file']}: {mutant['old']!r} must occur exactly once")
    path.write_text(text.replace(mutant["old"], mutant["new"]), encoding="utf8")


def try_mutant(mutant, expected, seconds=SECONDS):
    """(outcome, what was seen) of one mutant; `expected` is the recorded verdict."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        break_copy(mutant, folder)
        command = [sys.executable, "-c", MEASURE, str(folder), mutant["claim"]]
        own = {"env": os.environ | {"PYTHONPATH": str(folder / "lib")}, "cwd": folder}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, **own)
        except subprocess.TimeoutExpired:
            return "endless", f"no verdict after {seconds} s"
    if done.returncode:
        return "broken", done.stderr.strip().splitlines()[-1]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if "refused" in found:
        return "refused", found["refused"]
    return ("alive" if found["verdict"] == expected else "killed"), found["verdict"]


def main(claims=(), jobs=2, seconds=SECONDS):
    """Try the mutants (of some claims), print what became of them; outcome -> count."""
    verdicts = recorded_verdicts()
    table = [m for m in mutants() if not claims or m["claim"] in claims]
    counts = Counter()
    with ThreadPoolExecutor(jobs) as pool:
        tried = pool.map(lambda m: try_mutant(m, verdicts[m["claim"]], seconds), table)
        for mutant, (outcome, seen) in zip(table, tried, strict=True):
            counts[outcome] += 1
            claim = mutant["claim"]
            print(f"{outcome}: {claim}: {verdicts[claim]} -> {seen}", flush=True)
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("claims", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="longest time of one mutant")
    options = parser.parse_args()
    found = main(options.claims, options.jobs, options.seconds)
    sys.exit(0 if sum(found.values()) == sum(found[word] for word in GOOD) else 1)
