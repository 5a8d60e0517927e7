"""One thread for all contenders, and the record results/benchmarks.json."""

import json
import platform
import sys
from pathlib import Path

import pytest
import torch

from paper.records import RESULTS

RECORD = RESULTS / "benchmarks.json"
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def one_thread():
    """One thread for every contender, whatever OMP_NUM_THREADS says."""
    torch.set_num_threads(1)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(s.split(":")[1].strip() for s in lines if s.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


@pytest.fixture
def record():
    """record(name, numbers): merge into the JSON file; cases not run this time stay."""

    def write(name: str, numbers: dict[str, object]) -> None:
        old = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        header = {
            "processor": _processor(),
            "torch": torch.__version__.split("+")[0],
            "python": platform.python_version(),
        }
        RECORD.parent.mkdir(exist_ok=True)
        text = json.dumps({**old, "header": header, name: numbers}, indent=1, sort_keys=True)
        RECORD.write_text(text + "\n")

    return write
