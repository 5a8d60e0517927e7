"""The recorded timings (results/benchmarks.json and benchmarks_gpu.json) as tables."""

import json
from pathlib import Path
from typing import Any

from paper.records import RESULTS

__all__ = [
    "baseline_table",
    "compiler_text",
    "gpu_text",
    "large_run_text",
    "read_benchmarks",
    "reduction_table",
    "roofline_table",
    "target_table",
    "training_text",
]

#: Contenders in the order of the tables.
BASELINES = ("torch", "JAX scan", "NumPy", "batched autograd", "torch.func.vmap", "torch.nn loop")


def read_benchmarks(path: Path = RESULTS / "benchmarks.json") -> dict[str, Any]:
    """The record `make bench` wrote."""
    return json.loads(path.read_text())


def _cases(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if isinstance(v, dict) and {"runs", "ratios"} <= set(v)}


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def baseline_table(record: dict[str, Any]) -> str:
    """One column a case: microseconds per run and step of the C++ kernel, how many times slower
    each other one is: processor time of one thread, and time on the wall where both use all cores.
    """
    of = _cases(record)
    walls = [record[f"{name}, all cores"] for name in of]
    rows = [
        ["runs", *(str(c["runs"]) for c in of.values())],
        ["C++ (µs)", *(f"{c['microseconds']['C++']:.3g}" for c in of.values())],
        *([b, *(f"{c['ratios'][b]:.3g}" for c in of.values())] for b in BASELINES),
        [f"JAX scan, both on {walls[0]['cores']} cores, on the wall"]
        + [f"{w['ratio']:.3g}" for w in walls],
    ]
    return _table(["", *of], rows)


def roofline_table(record: dict[str, Any]) -> str:
    """Shares of the rate of a large product: bare products at their shapes, both kernels."""
    calls = ("its five products alone", "torch", "C++")
    rows = [
        [name.removeprefix("roofline "), f"{case['gflops']:.0f}"]
        + [f"{100 * case['shares'][call]:.0f} %" for call in calls]
        for name, case in record.items()
        if name.startswith("roofline ")
    ]
    return _table(["step", "large product (Gflop/s)", *calls], rows)


#: Times of JAX, and of torch.nn and the products' own time, that were asked of the cases.
ASKED = {
    "linear 20-50-10, float64": (8, 10, 4),
    "relu 10-50-5, float64": (1.2, 1.6, 2.2),
    "tanh 10-50-5, float64": (0.9, 0.9, 1.1),
    "linear 20-50-10, float32": (5, 3),
    "relu 10-50-5, float32": (0.95,),
}
ASKED_DEEP = (("2.7", "80 %"), ("6", "75 %"), ("10", "70 %"))


def gpu_text(path: Path = RESULTS / "benchmarks_gpu.json") -> str:
    """What `benchmarks/gpu.py` recorded: costs beside JAX and torch.nn, and the random problems."""
    record = json.loads(path.read_text())
    columns = ("triton", "graph", "torch", "JAX")
    asked = {kind: iter(factors) for kind, factors in ASKED.items()}
    two = []
    for name, row in record["two layers"].items():
        times = [f"{row[c]:.3g}" if c in row else "" for c in columns]
        ratio = f"{row['JAX'] / row['auto']:.2g}" if "JAX" in row else ""
        factor = next(asked.get(name.rsplit(", ", 1)[0], iter(())), "")
        two.append([name, *times, row["chosen"], ratio, str(factor)])
    deep = ("ours", "torch.nn", "products")
    six = []
    for (name, row), asks in zip(record["six layers"].items(), ASKED_DEEP, strict=False):
        ratio, share = row["torch.nn"] / row["ours"], row["products"] / row["ours"]
        measured = f"{ratio:.2g}", asks[0], f"{100 * share:.0f} %", asks[1]
        six.append([name, *(f"{row[c]:.3g}" for c in deep), *measured])
    rates, found = record["rates"], record["staircases"]
    words = ", ".join(f"{name} {rate:.3g}" for name, rate in rates.items())
    card = (
        f"Measured on one {record['card']} with torch {record['torch']}, Triton "
        f"{record['triton']} and JAX {record['jax']}; microseconds per run and step:"
    )
    drops = (
        f"The card's own rates (Tflop/s, copy in GB/s): {words}. Of {found['problems']} random "
        f"linear problems, run in {found['seconds']:.1f} seconds, {found['drops reached']} of "
        f"{found['drops']} drops were reached; their steps differ from the predicted ones by "
        f"{100 * found['median error']:.2g} % in the median and by less than "
        f"{100 * found['99 % of errors below']:.2g} % in 99 of 100."
    )
    tables = (
        _table(["case", *columns, "chosen", "JAX over chosen", "asked"], two),
        _table(["case", *deep, "torch.nn over ours", "asked", "share of products", "asked"], six),
    )
    training = "A training step of six layers, in milliseconds:"
    return "\n\n".join((card, tables[0], training, tables[1], drops))


def compiler_text(record: dict[str, Any]) -> str:
    """The sentences on `torch.compile`."""
    case = record["torch.compile"]
    ratios = {k: 1 / v for k, v in case["ratios"].items()}
    return (
        f"Written plainly in PyTorch and given to `torch.compile`, the step takes "
        f"{ratios['as written']:.2g} times the time of the same lines uncompiled, "
        f"{ratios['torch']:.2g} times that of the torch kernel and "
        f"{ratios['C++']:.2g} times that of the C++ kernel (after "
        f"{case['compile_seconds']:.0f} seconds of compilation). It fuses what is "
        "done entry by entry, not the products."
    )


def reduction_table(record: dict[str, Any]) -> str:
    """Seconds with and without width reduction, and of plateaus of different length."""
    rows = []
    for name, label in (("width reduction", "width {}"), ("fast-forward", "plateau of {} steps")):
        seconds = record[name]["seconds"]
        for key in sorted((k for k in seconds if k.isdigit()), key=int):
            stepping = f"{seconds[f'stepping {key}']:.3g}" if f"stepping {key}" in seconds else ""
            reduction = f"{seconds[f'reduce {key}']:.2g}" if f"reduce {key}" in seconds else ""
            rows.append([label.format(key), f"{seconds[key]:.3g}", stepping, reduction])
    return _table(["case", "reduced (s)", "stepping (s)", "the reduction itself (s)"], rows)


def target_table(record: dict[str, Any]) -> str:
    """The targets set beforehand, what was measured, and whether it was met."""
    linear, relu = "linear 20-50-10, float64", "ReLU 10-50-5, float64"
    targets = [
        ("linear net, against the torch.nn loop", 150, 1, (linear, "ratios", "torch.nn loop")),
        ("linear net, against JAX", 3, 1, (linear, "ratios", "JAX scan")),
        ("ReLU net, against JAX", 2.5, 1, (relu, "ratios", "JAX scan")),
        ("ReLU net, share of a large product", 0.5, 1, (f"roofline {relu}", "shares", "C++")),
        ("width 50 000 over width 50", 1.05, -1, ("width reduction", "ratio")),
        ("plateau of 10^6 over 10^3 steps", 1.1, -1, ("fast-forward", "ratio")),
        (
            "step of a parametrized net over the same in torch.nn",
            1.05,
            -1,
            ("training step", "ratio"),
        ),
        ("coordinate check over its bare steps", 1.5, -1, ("coordinate check", "ratio")),
    ]
    rows = []
    for name, target, sign, keys in targets:
        value: Any = record
        for key in keys:
            value = value[key]
        met = "yes" if sign * value >= sign * target else "no"
        words = f"at {'least' if sign > 0 else 'most'} {target:g}"
        rows.append([name, words, f"{value:.3g}", met])
    return _table(["case", "target", "measured", "met"], rows)


def training_text(record: dict[str, Any]) -> str:
    """The sentences on the cost of Part II's tools."""
    names = ("training speed, m = 792", "training speed, m = 42")
    own, large = (
        [100 * record[n][f"share of {of}"] for n in names]
        for of in ("its products", "a large product")
    )
    return (
        "A training step of a deep net consists of the matrix products of PyTorch, and on a CPU "
        "pass back and update go through the weights together, in panels that fit the cache. "
        "In the time of a step of a six-layer net of widths "
        "4096, m, 4096, m, 4096 with a batch of 100, the same products alone, each at its own "
        f"shape in the faster of two layouts, need {own[0]:.0f} % at $m = 792$ and "
        f"{own[1]:.0f} % at $m = 42$. A batch of 100 makes thin products: the step reaches "
        f"{large[0]:.0f} % and {large[1]:.0f} % of the rate of a large square product. "
        "A coordinate check without the spectral norms of the initial weights, which all schemes "
        f"share, costs {record['coordinate check']['without spectral norms']:.2f} times its bare "
        "steps."
    )


def large_run_text(record: dict[str, Any]) -> str:
    """The sentence on the run of width 10^6."""
    run = record["large run"]
    return (
        "A run of width $10^6$ with $10^6$ samples from $\\epsilon = 10^{-100}$ took "
        f"{run['total']:.1f} seconds of one core, "
        f"{run['seconds']['the run']:.1f} of them for its 6000 steps; "
        "drawing and reducing the data took the rest."
    )
