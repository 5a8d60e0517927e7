"""The recorded benchmarks (results/benchmarks.json), read and laid out as tables."""

import json
from pathlib import Path
from typing import Any

from learning_dynamics.experiments.records import RESULTS

__all__ = ["read_benchmarks", "reduction_table", "rival_table", "target_table"]

#: Contenders in the order of the tables.
RIVALS = ("torch.nn loop", "batched autograd", "torch.func.vmap", "NumPy", "JAX scan")


def read_benchmarks(path: Path = RESULTS / "benchmarks.json") -> dict[str, Any]:
    """The record `make bench` wrote. Raises ValueError if there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path.name} is missing: `make bench` writes it") from None


def _cases(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if isinstance(v, dict) and "ratios" in v}


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rival_table(record: dict[str, Any]) -> str:
    """Microseconds per run and step of the kernel, and how many times slower each rival is."""
    rows = []
    for name, case in _cases(record).items():
        row = [name, str(case["runs"]), f"{case['microseconds']['ours']:.3g}"]
        row += [f"{case['ratios'][r]:.3g}" for r in RIVALS]
        rows.append([*row, f"{100 * case['gemm_share']:.0f} %"])
    return _table(["case", "runs", "kernel (µs)", *RIVALS, "share of peak"], rows)


def reduction_table(record: dict[str, Any]) -> str:
    """Seconds with and without width reduction, and of plateaus of different length."""
    width, jump = record["width reduction"], record["fast-forward"]
    rows = []
    for key in sorted((k for k in width["seconds"] if k.isdigit()), key=int):
        whole = width["seconds"].get(f"stepping {key}")
        rows.append([
            f"width {key}", f"{width['seconds'][key]:.3g}",
            "" if whole is None else f"{whole:.3g}", f"{width['seconds'][f'reduce {key}']:.2g}",
        ])
    for key in sorted((k for k in jump["seconds"] if k.isdigit()), key=int):
        whole = jump["seconds"].get(f"stepping {key}")
        rows.append([
            f"plateau of {int(key)} steps", f"{jump['seconds'][key]:.3g}",
            "" if whole is None else f"{whole:.3g}", "",
        ])
    return _table(["case", "reduced (s)", "stepping (s)", "the reduction itself (s)"], rows)


def target_table(record: dict[str, Any]) -> str:
    """The targets set beforehand, what was measured, and whether it was met."""
    linear, relu = record["linear 20-50-10"], record["ReLU 10-50-5"]
    rows = [
        ("linear net, against the torch.nn loop", 150, linear["ratios"]["torch.nn loop"], 1),
        ("linear net, against JAX", 3, linear["ratios"]["JAX scan"], 1),
        ("ReLU net, against JAX", 2.5, relu["ratios"]["JAX scan"], 1),
        ("ReLU net, share of the GEMM peak", 0.5, relu["gemm_share"], 1),
        ("width 50 000 over width 50", 1.05, record["width reduction"]["ratio"], -1),
        ("plateau of 10^6 over 10^3 steps", 1.1, record["fast-forward"]["ratio"], -1),
    ]
    return _table(
        ["case", "target", "measured", "met"],
        [
            [name, f"{'≥' if sign > 0 else '≤'} {target:g}", f"{value:.3g}",
             "yes" if sign * value >= sign * target else "no"]
            for name, target, value, sign in rows
        ],
    )
