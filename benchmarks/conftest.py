"""Threads for the benchmarks, and the record results/benchmarks.json."""

import json
import os
import platform
import sys
from pathlib import Path

import pytest
import torch

RECORD = Path(__file__).resolve().parents[1] / "results" / "benchmarks.json"
THREADS = min(2, os.cpu_count() or 1)
sys.path.insert(0, str(Path(__file__).parent))
_collected: dict[str, object] = {}


@pytest.fixture(autouse=True, scope="session")
def threads():
    """All contenders may use two cores, whatever OMP_NUM_THREADS says."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield THREADS
    torch.set_num_threads(before)


@pytest.fixture
def record():
    """record(name, numbers): keep these for the JSON file."""
    return _collected.__setitem__


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(s.split(":")[1].strip() for s in lines if s.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def pytest_sessionfinish(session, exitstatus):
    """Merge what was measured into the record; cases not run this time stay."""
    if not _collected:
        return
    old = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    header = {
        "processor": _processor(),
        "threads": THREADS,
        "torch": torch.__version__.split("+")[0],
        "python": platform.python_version(),
    }
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(
        json.dumps({**old, "header": header, **_collected}, indent=1, sort_keys=True) + "\n"
    )
