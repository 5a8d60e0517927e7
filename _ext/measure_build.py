"""Time the README's commands from a fresh clone and record them in results/build_times.json.

    python _ext/measure_build.py        takes as long as the commands do; needs nothing installed

Each command runs twice: cold (no environment, no cache: the first one includes installing) and warm.
"""

import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS = {
    "installing the environment": "environment",
    "make test, installed": "test",
    "make book, empty cache": "book",
    "make pdf, after the book": "pdf",
    "make book again, nothing changed": "book",
}


def main():
    """Clone, run, record; stop at the first failure."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), folder], check=True)
        for words, target in STEPS.items():
            start = time.perf_counter()
            subprocess.run(["make", target], cwd=folder, check=True)
            rows.append({"what": words, "seconds": round(time.perf_counter() - start)})
    record = {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "load": round(os.getloadavg()[2], 1),
        "times": rows,
    }
    (ROOT / "results" / "build_times.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
