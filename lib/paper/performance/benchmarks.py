"""The recorded benchmarks (results/benchmarks.json), read and laid out as tables."""

import json
from pathlib import Path
from typing import Any

from paper.records import RESULTS

__all__ = [
    "baseline_table",
    "compiler_text",
    "large_run_text",
    "read_benchmarks",
    "reduction_table",
    "roofline_table",
    "target_table",
    "training_text",
]

#: Contenders in the order of the tables.
BASELINES = ("torch.nn loop", "batched autograd", "torch.func.vmap", "NumPy", "JAX scan")


#: Said in place of a table whose numbers have not been recorded.
MISSING = "*Not recorded yet: `make bench` measures it.*"


def read_benchmarks(path: Path = RESULTS / "benchmarks.json") -> dict[str, Any]:
    """The record `make bench` wrote; empty if there is none yet."""
    return json.loads(path.read_text()) if path.exists() else {}


def _cases(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if isinstance(v, dict) and {"runs", "ratios"} <= set(v)}


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def baseline_table(record: dict[str, Any]) -> str:
    """One column a case: microseconds per run and step of the kernel, how many times slower each
    baseline is."""
    cases = _cases(record)
    if not cases:
        return MISSING
    of = list(cases.values())
    rows = [
        ["runs", *(str(c["runs"]) for c in of)],
        ["kernel (µs)", *(f"{c['microseconds']['ours']:.3g}" for c in of)],
    ]
    rows += [[baseline, *(f"{c['ratios'][baseline]:.3g}" for c in of)] for baseline in BASELINES]
    return _table(["", *cases], rows)


def roofline_table(record: dict[str, Any]) -> str:
    """Shares of the rate of a large product: bare products at their shapes, both kernels."""
    calls = ("its five products alone", "kernel of five products", "kernel in two passes")
    rows = [
        [name.removeprefix("roofline "), f"{case['gflops']:.0f}"]
        + [f"{100 * case['shares'][call]:.0f} %" for call in calls]
        for name, case in record.items()
        if name.startswith("roofline ")
    ]
    return _table(["step", "large product (Gflop/s)", *calls], rows) if rows else MISSING


def compiler_text(record: dict[str, Any]) -> str:
    """The sentences on `torch.compile`."""
    if "torch.compile" not in record:
        return MISSING
    case = record["torch.compile"]
    ratios = {k: 1 / v for k, v in case["ratios"].items()}
    return (
        f"Written plainly in PyTorch and given to `torch.compile`, the step takes "
        f"{ratios['as written']:.2g} times the time of the same lines uncompiled, "
        f"{ratios['kernel of five products']:.2g} times that of the kernel of products and "
        f"{ratios['kernel in two passes']:.2g} times that of the kernel in two passes (one "
        f"thread, after {case['compile_seconds']:.0f} seconds of compilation). It fuses what is "
        "done entry by entry, not the products."
    )


def reduction_table(record: dict[str, Any]) -> str:
    """Seconds with and without width reduction, and of plateaus of different length."""
    if not {"width reduction", "fast-forward"} <= set(record):
        return MISSING
    width, jump = record["width reduction"], record["fast-forward"]
    rows = []
    for key in sorted((k for k in width["seconds"] if k.isdigit()), key=int):
        whole = width["seconds"].get(f"stepping {key}")
        rows.append(
            [
                f"width {key}",
                f"{width['seconds'][key]:.3g}",
                "" if whole is None else f"{whole:.3g}",
                f"{width['seconds'][f'reduce {key}']:.2g}",
            ]
        )
    for key in sorted((k for k in jump["seconds"] if k.isdigit()), key=int):
        whole = jump["seconds"].get(f"stepping {key}")
        rows.append(
            [
                f"plateau of {int(key)} steps",
                f"{jump['seconds'][key]:.3g}",
                "" if whole is None else f"{whole:.3g}",
                "",
            ]
        )
    return _table(["case", "reduced (s)", "stepping (s)", "the reduction itself (s)"], rows)


def target_table(record: dict[str, Any]) -> str:
    """The targets set beforehand, what was measured, and whether it was met."""
    targets = [
        (
            "linear net, against the torch.nn loop",
            150,
            1,
            ("linear 20-50-10", "ratios", "torch.nn loop"),
        ),
        ("linear net, against JAX", 3, 1, ("linear 20-50-10", "ratios", "JAX scan")),
        ("ReLU net, against JAX", 2.5, 1, ("ReLU 10-50-5", "ratios", "JAX scan")),
        (
            "ReLU net, share of the GEMM peak",
            0.5,
            1,
            ("roofline ReLU 10-50-5", "shares", "kernel in two passes"),
        ),
        ("width 50 000 over width 50", 1.05, -1, ("width reduction", "ratio")),
        ("plateau of 10^6 over 10^3 steps", 1.1, -1, ("fast-forward", "ratio")),
        (
            "step of a parametrized net over the same in torch.nn",
            1.05,
            -1,
            ("training step", "ratio"),
        ),
        ("coordinate check over its bare steps", 1.5, -1, ("coordinate check", "ratio")),
        (
            "training step, n = 4096, m = 792, share of its products",
            0.8,
            1,
            ("training speed, m = 792", "share of its products"),
        ),
        ("the same, m = 42", 0.65, 1, ("training speed, m = 42", "share of its products")),
        (
            "the same, m = 792, share of a large product",
            0.8,
            1,
            ("training speed, m = 792", "share of a large product"),
        ),
        ("the same, m = 42", 0.65, 1, ("training speed, m = 42", "share of a large product")),
    ]
    rows = []
    for name, target, sign, keys in targets:
        value: Any = record
        for key in keys:
            value = value.get(key, {})
        met = "not recorded" if value == {} else "yes" if sign * value >= sign * target else "no"
        shown = "" if value == {} else f"{value:.3g}"
        rows.append([name, f"at {'least' if sign > 0 else 'most'} {target:g}", shown, met])
    return _table(["case", "target", "measured", "met"], rows)


def training_text(record: dict[str, Any]) -> str:
    """The sentences on the cost of Part II's tools."""
    names = ("training speed, m = 792", "training speed, m = 42")
    if not {"coordinate check", *names} <= set(record):
        return MISSING
    wide, narrow = (record[n]["share of a large product"] for n in names)
    bars = [
        record[n]["share of a large product"] / record[n]["share of its products"] for n in names
    ]
    return (
        "A training step is held against two bars: the time of its matrix products, each at its "
        "own "
        "shape in the faster of two layouts, and the rate of a large square product. A batch of "
        "100 "
        "makes thin products: the library itself reaches "
        f"{100 * bars[0]:.0f} % of the large rate on them at $m = 792$ and "
        f"{100 * bars[1]:.0f} % at "
        f"$m = 42$, the step {100 * wide:.0f} % and {100 * narrow:.0f} %. Pass back and update go "
        "through the weights together, in panels that fit the cache. The large product lasts as "
        "long as "
        "the steps beside it, because the clock falls under load. A coordinate check without the "
        "spectral norms of the initial weights, which all schemes share, costs "
        f"{record['coordinate check']['without spectral norms']:.2f} times its bare steps."
    )


def large_run_text(record: dict[str, Any]) -> str:
    """The sentence on the run of width 10^6."""
    if "large run" not in record:
        return MISSING
    run = record["large run"]
    return (
        "A run of width $10^6$ with $10^6$ samples from $\\epsilon = 10^{-100}$ took "
        f"{run['total']:.1f} seconds, {run['seconds']['the run']:.1f} of them for its 6000 "
        "steps; drawing and reducing the data took the rest."
    )
