"""Tables of the performance page, and the evidence functions' own checks."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from paper.performance.benchmarks import (
    BASELINES,
    baseline_table,
    compiler_text,
    gpu_text,
    roofline_table,
    target_table,
)
from paper.performance.kernels import half_drops

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))
gpu = importlib.import_module("gpu")


def case(jax):
    ratios = dict.fromkeys(BASELINES, 10.0) | {"torch.nn loop": 149.0, "JAX scan": jax}
    return {"runs": 8, "microseconds": {"C++": 2.5}, "ratios": ratios}


def test_targets_are_compared_in_the_right_direction():
    names = "width reduction", "fast-forward", "training step", "coordinate check"
    record = {n: {"ratio": r} for n, r in zip(names, (1.05, 1.2, 1.06, 1.5), strict=True)}
    nets = {"linear 20-50-10, float64": case(3.0), "ReLU 10-50-5, float64": case(2.4)}
    record |= nets | {f"{name}, all cores": {"cores": 2, "ratio": 5.5} for name in nets}
    record["roofline ReLU 10-50-5, float64"] = {"gflops": 1.0, "shares": {"C++": 0.51}}
    met = [line.split("|")[-2].strip() for line in target_table(record).splitlines()[2:]]
    assert met == ["no", "yes", "no", "yes", "yes", "no", "no", "yes"]
    table = baseline_table(record).splitlines()
    assert table[0] == "|  | linear 20-50-10, float64 | ReLU 10-50-5, float64 |"
    assert "| C++ (µs) | 2.5 | 2.5 |" in table and "| JAX scan | 3 | 2.4 |" in table
    assert table[-1] == "| JAX scan, both on 2 cores, on the wall | 5.5 | 5.5 |"


def test_shares_and_ratios_are_said_as_recorded():
    calls = ("its five products alone", "torch", "C++")
    shares = dict(zip(calls, (0.45, 0.25, 0.555), strict=True))
    ratios = {"as written": 4.0, calls[1]: 0.8, calls[2]: 0.25, "torch.compile": 1.0}
    record = {
        "roofline ReLU": {"gflops": 72.3, "shares": shares},
        "torch.compile": {"compile_seconds": 30.2, "ratios": ratios},
    }
    assert roofline_table(record).splitlines()[2] == "| ReLU | 72 | 45 % | 25 % | 56 % |"
    text = compiler_text(record)  # ratios: each call's time over that of torch.compile
    assert "0.25 times the time" in text and "4 times that of the C++ kernel" in text


def test_half_drops_are_counted_only_when_all_are_reached():
    losses, levels = np.array([4.0, 3.9, 2.4, 2.0, 0.4]), np.array([4.0, 2.0, 0.0])
    assert half_drops(losses, levels) == [2, 4]
    with pytest.raises(ValueError, match="last half-drop"):
        half_drops(losses[:4], levels)


def test_staircases_on_a_gpu_are_those_of_theory(tmp_path):
    record = json.loads((gpu.RESULTS / "benchmarks_gpu.json").read_text())
    found = record["staircases"] = gpu.staircases(4, 2, "cpu", scales=(1e-4, 1e-6))
    (path := tmp_path / "benchmarks_gpu.json").write_text(json.dumps(record))
    assert f"{found['drops reached']} of {found['drops']} drops" in gpu_text(path)
    assert found["drops reached"] == found["drops"] >= 4
    assert found["median error"] < 0.05  # of log(1/100); the shape of drops cancels
