"""The C++ kernels beside the generated machine code that they replace: ratios of fastest repeats.

All take the same steps of the same chunk in turn, on one thread; every other round goes backwards.
Seconds are the thread's own, because others may use the machine. Writes
results/native_against_generated.json.
"""

import json
import platform
import subprocess
import time
from pathlib import Path

import torch
from conftest import _processor

from learning_dynamics.activations import activation
from learning_dynamics.kernels import compiler
from learning_dynamics.kernels.native import LinearNative, ReluNative
from learning_dynamics.losses import squared
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.ensemble import CACHE
from learning_dynamics.saddles.fused import FusedKernel, FusedProductKernel
from learning_dynamics.saddles.kernels import Data, DenseKernel, ProductKernel
from learning_dynamics.saddles.two_layer import initialise

RECORD = Path(__file__).resolve().parents[1] / "results" / "native_against_generated.json"
KERNELS = {
    "relu": {"generated": FusedKernel, "native": ReluNative, "torch": DenseKernel},
    "linear": {"generated": FusedProductKernel, "native": LinearNative, "torch": ProductKernel},
}
CASES = [
    ("relu", (10, 50, 5), 200), ("relu", (10, 200, 5), 200), ("relu", (10, 50, 5), 1000),
    ("relu", (2, 50, 1), 5), ("relu", (12, 16, 4), 64),
    ("linear", (20, 50, 10), 40), ("linear", (6, 10, 4), 24), ("linear", (2, 50, 1), 5),
    ("linear", (64, 36, 16), 24),
]
STEPS, ROUNDS = 5, 150


def bound(kind, act, widths, n, dtype):
    """A kernel at work on one chunk."""
    g = generator("native against generated", act, n)
    x, y = (torch.randn(m, n, generator=g).to(dtype) for m in (widths[0], widths[2]))
    sizes = (*widths, n)
    runs = min(16, max(1, CACHE // (DenseKernel.elements(sizes) * x.element_size())))
    start = initialise(widths, 0.1, [generator("start", i) for i in range(runs)], dtype=dtype)
    kernel = kind(runs, sizes, activation(act), x)
    scale = torch.full((runs, 1, 1), 0.01 / n, dtype=dtype)
    kernel.bind(kernel.pack(start), Data(x, x.mT.contiguous(), y), squared(), scale)
    return kernel, runs


def fastest(kernels):
    """Seconds of a step in the fastest round."""
    best = dict.fromkeys(kernels, float("inf"))
    for number in range(ROUNDS):
        for name, kernel in list(kernels.items())[:: 1 if number % 2 else -1]:
            begin = time.thread_time()
            kernel.advance(STEPS)
            best[name] = min(best[name], (time.thread_time() - begin) / STEPS)
    return best


def main() -> None:
    """Measure all cases and write the record."""
    torch.set_num_threads(1)
    found = {}
    for act, widths, n in CASES:
        for dtype in (torch.float64, torch.float32):
            made = {k: bound(kind, act, widths, n, dtype) for k, kind in KERNELS[act].items()}
            best = fastest({k: kernel for k, (kernel, _) in made.items()})
            name = f"{act} {'-'.join(map(str, widths))}, n = {n}, {str(dtype).split('.')[-1]}"
            found[name] = {
                "runs": made["native"][1],
                "speed over generated": round(best["generated"] / best["native"], 3),
                "speed over torch": round(best["torch"] / best["native"], 3),
                "microseconds a run and step": round(1e6 * best["native"] / made["native"][1], 3),
            }
            print(name, found[name], flush=True)
    said = subprocess.run([*compiler.command(), "--version"], capture_output=True, text=True).stdout
    header = {"processor": _processor(), "compiler": said.splitlines()[0],
              "flags": [*compiler.FLAGS, f"-march={compiler.march()}"], "threads": 1,
              "torch": torch.__version__.split("+")[0], "python": platform.python_version()}
    RECORD.write_text(json.dumps({"header": header, "ratios": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
