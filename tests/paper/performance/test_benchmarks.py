"""Tables of the performance page, and the evidence functions' own checks."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from paper.performance import benchmarks
from paper.performance.benchmarks import (
    BASELINES,
    MISSING,
    baseline_table,
    gpu_text,
    read_benchmarks,
)
from paper.performance.kernels import half_drops

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))
gpu = importlib.import_module("gpu")


def case(jax):
    ratios = dict.fromkeys(BASELINES, 10.0) | {"torch.nn loop": 149.0, "JAX scan": jax}
    return {"runs": 8, "microseconds": {"C++": 2.5}, "ratios": ratios}


def test_targets_are_compared_in_the_right_direction(tmp_path):
    path = tmp_path / "benchmarks.json"
    names = "width reduction", "fast-forward", "training step", "coordinate check"
    found = {n: {"ratio": r} for n, r in zip(names, (1.05, 1.2, 1.06, 1.5), strict=True)}
    found |= {"linear 20-50-10, float64": case(3.0), "ReLU 10-50-5, float64": case(2.4)}
    found["roofline ReLU 10-50-5, float64"] = {"gflops": 1.0, "shares": {"C++": 0.51}}
    curve = {"at": [1, 2], "microseconds": [1.0, 1.0], "slope": 0.0}
    path.write_text(json.dumps(found | {"scaling linear batch": curve}))
    record = read_benchmarks(path)
    met = [line.split("|")[-2].strip() for line in benchmarks.target_table(record).splitlines()[2:]]
    assert met == ["no", "yes", "no", "yes", "yes", "no", "no", "yes"]
    table = baseline_table(record).splitlines()
    assert table[0] == "|  | linear 20-50-10, float64 | ReLU 10-50-5, float64 |"
    assert "| C++ (µs) | 2.5 | 2.5 |" in table and table[-1] == "| torch.nn loop | 149 | 149 |"
    assert "| JAX scan | 3 | 2.4 |" in table
    walls = {
        f"{name}, all cores": {"cores": 2, "ratio": 5.5}
        for name in record
        if name[:5] in ("linea", "ReLU ")
    }
    last = baseline_table(record | walls).splitlines()[-1]
    assert last == "| JAX scan, both on 2 cores, on the wall | 5.5 | 5.5 |"


def test_a_missing_record_is_said(tmp_path):
    record = read_benchmarks(tmp_path / "none.json")
    texts = (
        "baseline_table reduction_table large_run_text roofline_table compiler_text training_text"
    )
    assert {getattr(benchmarks, name)(record) for name in texts.split()} == {MISSING}
    assert benchmarks.generated_table(tmp_path / "none.json") == MISSING
    assert benchmarks.target_table(record).count("not recorded") == 8


def test_shares_and_ratios_are_said_as_recorded():
    calls = ("its five products alone", "torch", "C++")
    shares = dict(zip(calls, (0.45, 0.25, 0.555), strict=True))
    ratios = {"as written": 4.0, calls[1]: 0.8, calls[2]: 0.25, "torch.compile": 1.0}
    record = {
        "roofline ReLU": {"gflops": 72.3, "shares": shares},
        "header": {},
        "torch.compile": {"compile_seconds": 30.2, "ratios": ratios},
    }
    assert benchmarks.roofline_table(record).splitlines()[2] == "| ReLU | 72 | 45 % | 25 % | 56 % |"
    text = benchmarks.compiler_text(record)  # ratios: each call's time over that of torch.compile
    assert "0.25 times the time" in text and "1.2 times that of the torch kernel" in text
    assert "4 times that of the C++ kernel" in text and "30 seconds" in text
    assert baseline_table(record) == MISSING


def test_half_drops_are_counted_only_when_all_are_reached():
    losses, levels = np.array([4.0, 3.9, 2.4, 2.0, 0.4]), np.array([4.0, 2.0, 0.0])
    assert half_drops(losses, levels) == [2, 4]
    with pytest.raises(ValueError, match="last half-drop"):
        half_drops(losses[:4], levels)


def test_timings_on_a_gpu_are_shown_or_said_to_be_missing(tmp_path):
    path = tmp_path / "benchmarks_gpu.json"
    assert "have not been timed" in gpu_text(path)
    row = {"triton": 0.5, "graph": 1.5, "torch": 2.5, "auto": 0.5, "chosen": "triton"}
    record = {
        "card": "a card",
        "torch": "2",
        "triton": "3",
        "jax": "not installed",
        "two layers": {"linear, 1 runs": row},
        "six layers": {"n = 4": {"ours": 1.0, "torch.nn": 2.0, "products": 0.9}},
        "rates": {"copy": 4000.0},
        "staircases": gpu.staircases(4, 2, "cpu", scales=(1e-4, 1e-6)),
    }
    path.write_text(json.dumps(record))
    shown = gpu_text(path)
    assert "| linear, 1 runs | 0.5 | 1.5 | 2.5 |  | triton |  |  |" in shown
    assert "| n = 4 | 1 | 2 | 0.9 | 2 | 2.7 | 90 % | 80 % |" in shown
    assert record["staircases"]["drops reached"] == record["staircases"]["drops"] >= 4
    assert record["staircases"]["median error"] < 0.05  # of log(1/100); the shape of drops cancels
