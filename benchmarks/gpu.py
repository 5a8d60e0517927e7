"""What the kernels do on a GPU: `python benchmarks/gpu.py` writes results/benchmarks_gpu.json.

First whether they are right: all kernels against torch on the CPU, and ten thousand random linear
problems against the predicted staircase. Then what they cost: medians of five calls, next to JAX's
`jit(vmap(scan))`, the torch.nn loop, and the card's own rates. Under three minutes, no network.
Without a GPU only a few of the random problems are run, and nothing is written.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take all memory

import torch
from torch import Tensor

from baselines import jax_scan
from learning_dynamics.kernels.graph import Replayed
from learning_dynamics.losses import LOSSES
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator, normal
from learning_dynamics.saddles import gradient_descent, initialise, predict_staircase
from learning_dynamics.saddles.theory.stages import crossing_steps
from learning_dynamics.saddles.two_layer import Weights
from learning_dynamics.scales import initialise as initialise_deep
from learning_dynamics.scales import sgd
from paper.records import RESULTS

#: Activation, (m0, m1, m2, n), numbers of runs in each precision.
NETS = (
    ("linear", (20, 50, 10, 40), {torch.float64: (1, 256, 8192), torch.float32: (256, 2048)}),
    ("relu", (10, 50, 5, 200), {torch.float64: (1, 64, 2048), torch.float32: (2048,)}),
    ("tanh", (10, 50, 5, 200), {torch.float64: (1, 64, 2048), torch.float32: (2048,)}),
)
#: Widths n, m of the six-layer net 784-n-m-n-m-n-2, trained on batches of 100.
DEEP = ((4096, 792), (4096, 42), (256, 64))
BATCH = 100


def seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """Median time of a call, until the card is done; one call goes before."""
    times = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def case(act: str, sizes: tuple[int, ...], runs: int, dtype: torch.dtype, loss: str = "squared"):
    """Weights and a problem for all runs, on the CPU."""
    m0, m1, m2, n = sizes
    x, y = (normal(m, n, generator=generator("gpu", m, n), dtype=dtype) for m in (m0, m2))
    y = {"logistic": y.sign(), "cross_entropy": y.softmax(0)}.get(loss, y)
    weights = initialise((m0, m1, m2), 0.1, [generator("gpu", i) for i in range(runs)])
    return Weights(*(w.to(dtype) for w in weights)), Problem(x, y)


def on_card(weights: Weights, problem: Problem) -> tuple[Weights, Problem]:
    """The same on the GPU."""
    there = Problem(problem.inputs.cuda(), problem.targets.cuda())
    return Weights(*(w.cuda() for w in weights)), there


def correctness() -> dict[str, float]:
    """Largest difference from torch on the CPU, over the largest weight, by backend.

    Each activation and each loss once: a kernel is a pair of them (all pairs: the tests). With 69
    samples several programs share a run, with 21 each has one.
    """
    acts = ("linear", "relu", "leaky_relu", "tanh", "gelu", "softplus")
    cases = [(act, "squared", 69) for act in acts] + [("tanh", loss, 69) for loss in LOSSES]
    worst: dict[str, float] = {}
    for act, loss, samples in sorted({*cases, ("relu", "squared", 21)}):
        weights, problem = case(act, (5, 7, 3, samples), 3, torch.float64, loss)
        for scale in (1.0, 1e-19):
            start = Weights(*(scale * w for w in weights))
            how = {"step_size": 0.1, "steps": 40, "activation": act, "loss": loss}
            right = gradient_descent(start, problem, backend="torch", **how).final
            for backend in ("torch", "graph", "triton"):
                run = gradient_descent(*on_card(start, problem), backend=backend, **how)
                for a, b in zip(run.final, right, strict=True):
                    apart = float((a.cpu() - b).abs().max() / b.abs().max())
                    worst[backend] = max(worst.get(backend, 0.0), apart)
    return worst


def two_layer() -> dict[str, dict[str, float]]:
    """Microseconds per run and step of each backend and of JAX, in calls of the same steps."""
    found = {}
    for act, sizes, counts in NETS:
        for dtype, runs in ((d, r) for d, each in counts.items() for r in each):
            weights, problem = case(act, sizes, runs, dtype)
            most = 2_000_000 if act == "linear" else 300_000
            steps = min(20_000, max(1000, most // runs))
            there = on_card(weights, problem)

            def call(backend, count, act=act, there=there):
                options = {"step_size": 0.01, "steps": count, "record_at": [0, count]}
                return gradient_descent(*there, activation=act, backend=backend, **options)

            chosen = call("auto", steps).backend
            row = {"auto": seconds(lambda: call("auto", steps), 3) / steps}  # noqa: B023
            row[chosen] = row["auto"]
            for backend in {"triton", "graph", "torch"} - {chosen}:
                count = steps // 4
                row[backend] = seconds(lambda b=backend, c=count: call(b, c), 1) / count
            name = f"{act} {'-'.join(map(str, sizes[:3]))}, {str(dtype)[6:]}, {runs} runs"
            try:
                scan = jax_scan(weights, problem, act, 0.01, steps)
                row["JAX"] = seconds(scan, 3) / steps
            except ImportError:
                print("JAX is not installed: its column stays empty")
            found[name] = {k: 1e6 * v / runs for k, v in row.items()} | {"chosen": chosen}
            print(name, found[name], flush=True)
    return found


def deep_products(widths: tuple[int, ...]) -> Callable[[], None]:
    """The bare products of one training step."""
    rows = [torch.randn(BATCH, m, device="cuda") for m in widths]
    deltas = [torch.randn(BATCH, m, device="cuda") for m in widths]
    weights = [torch.randn(*s, device="cuda") for s in zip(widths[1:], widths[:-1], strict=True)]

    def run() -> None:
        for layer, w in enumerate(weights):
            torch.mm(rows[layer], w.mT, out=deltas[layer + 1])
        for layer, w in reversed([*enumerate(weights)]):
            if layer:
                torch.mm(deltas[layer + 1], w, out=rows[layer])
            w.addmm_(deltas[layer + 1].mT, rows[layer], alpha=-1e-9)

    return run


def module_step(widths: tuple[int, ...], x: Tensor, y: Tensor) -> Callable[[], None]:
    """One step of the same net as one would write it in torch.nn."""
    layers: list[torch.nn.Module] = []
    for a, b in zip(widths, widths[1:], strict=False):
        layers += [torch.nn.Linear(a, b, bias=False), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1]).cuda()
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-6)

    def run() -> None:
        optimiser.zero_grad()
        (0.5 * (net(x) - y).square().sum() / BATCH).backward()
        optimiser.step()

    return run


def deep(steps: int = 200) -> dict[str, dict[str, float]]:
    """Milliseconds of one training step of a deep net, ours, in torch.nn, and its products."""
    found = {}
    for n, m in DEEP:
        widths = (784, n, m, n, m, n, 2)
        data = Problem(torch.rand(784, 10 * BATCH).cuda(), torch.rand(2, 10 * BATCH).cuda())
        state = initialise_deep(widths, (1.0,) * 6, [0], device="cuda")
        scales = [a**-0.5 for a in widths[:-1]]
        options = {"seeds": [0], "step_size": 1e-6, "batch_size": BATCH}

        def train(count, data=data, state=state, scales=scales, options=options):
            return lambda: sgd(data, state, scales, steps=count, **options)

        products = Replayed(deep_products(widths), True)
        module = module_step(widths, data.inputs[:, :BATCH].mT, data.targets[:, :BATCH].mT)
        ours = (seconds(train(2 * steps)) - seconds(train(steps))) / steps  # without the capture
        row = {"ours": ours, "torch.nn": seconds(lambda f=module: [f() for _ in range(20)]) / 20}
        row["products"] = seconds(lambda f=products: [f() for _ in range(20)]) / 20
        found[f"n = {n}, m = {m}"] = {k: 1e3 * v for k, v in row.items()}
    return found


def card() -> dict[str, float]:
    """Rates of a large product (Tflop/s) and of a copy (GB/s)."""
    found = {}
    for dtype in (torch.float64, torch.float32):
        a, b = torch.randn(2, 8192, 8192, dtype=dtype, device="cuda")
        took = seconds(partial(torch.mm, a, b))
        found[f"product, {str(dtype)[6:]}"] = 2e-12 * 8192**3 / took
    found["copy"] = 2e-9 * a.nbytes / seconds(lambda: b.copy_(a))
    return found


def staircases(problems: int, shapes: int, device: str, scales=(1e-8, 1e-12)) -> dict[str, float]:
    """Random linear problems, one a run: their drops against the predicted staircase.

    Drawn: sizes, inputs of random covariance, teacher, noise. A drop is where the loss passes the
    middle of two levels. Between two initial scales it moves by the predicted time of the drop
    times log(ratio of the scales): what is the same at both scales, the shape of the drop, cancels.
    Errors are relative to that; a drop that was never reached counts as infinite.
    """
    stream, errors, ended, took = generator("staircases"), [], [], 0.0
    each = problems // shapes
    for _ in range(shapes):
        m0 = int(torch.randint(6, 25, (), generator=stream))
        m2 = int(torch.randint(2, m0 // 2 + 1, (), generator=stream))
        m1 = int(torch.randint(m2, 49, (), generator=stream))
        n = int(torch.randint(2 * m0, 4 * m0, (), generator=stream))
        kind = {"generator": stream, "dtype": torch.float64}
        mix = torch.eye(m0, dtype=torch.float64) + 0.1 * normal(each, m0, m0, **kind)
        x = mix @ normal(each, m0, n, **kind)
        y = normal(each, m2, m0, **kind) / m0**0.5 @ x + 0.1 * normal(each, m2, n, **kind)
        problem = Problem(x.to(device), y.to(device))
        moments = problem.moments()
        best = torch.linalg.matrix_norm(moments.yx, 2) / torch.linalg.matrix_norm(moments.xx, -2)
        eta = 0.2 / (best * torch.linalg.matrix_norm(moments.xx, 2))
        stairs = predict_staircase(moments, eta)
        middles = 0.5 * (stairs.levels[:, 1:] + stairs.levels[:, :-1])
        start = initialise((m0, m1, m2), 1.0, [generator("staircases", i) for i in range(each)])
        crossed = []
        for scale in scales:
            steps = int(1.2 * stairs.drop_steps(scale).max()) + 2000
            begin = time.perf_counter()
            run = gradient_descent(
                Weights(*((scale * w).to(device) for w in start)),
                problem,
                step_size=eta,
                steps=steps,
                record_at=geometric(steps),
            )
            took += time.perf_counter() - begin
            crossed.append(crossing_steps(run["loss"], middles, run.steps))
            end = stairs.levels[:, -1]
            ended.append((run["loss"][:, -1] - end) / (stairs.levels[:, 0] - end))
        moved = crossed[1] - crossed[0]
        wanted = stairs.drop_steps(scales[1]) - stairs.drop_steps(scales[0])
        errors.append(((moved - wanted).abs() / wanted).nan_to_num(nan=torch.inf).flatten().cpu())
    all_errors = torch.cat(errors)
    return {
        "problems": each * shapes,
        "drops": len(all_errors),
        "drops reached": int(all_errors.isfinite().sum()),
        "median error": float(all_errors.median()),
        "99 % of errors below": float(all_errors.quantile(0.99, interpolation="higher")),
        "drops within 5 %": float((all_errors < 0.05).double().mean()),
        "largest excess loss": float(torch.cat(ended).max()),
        "seconds": took,
    }


def geometric(steps: int, ratio: float = 1.005) -> list[int]:
    """0 and steps that grow by `ratio`, so that every drop is seen to the same share of its time:
    slow modes are learned a thousand times later than fast ones."""
    grid, t = [0], 1.0
    while t < steps:
        grid.append(max(grid[-1] + 1, int(t)))
        t = max(t * ratio, t + 1)
    return [t for t in grid if t < steps] + [steps]


def show(record: Mapping[str, object]) -> None:
    print(json.dumps(record, indent=1), flush=True)


def main() -> int:
    if not torch.cuda.is_available():
        print("no GPU: a few of the random problems on the CPU, nothing is written")
        show(staircases(6, 2, "cpu"))
        return 0
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("triton", "jax"):
        try:
            versions[name] = __import__(name).__version__
        except ImportError:
            versions[name] = "not installed"
    if versions["jax"] != "not installed":
        __import__("jax").config.update("jax_default_matmul_precision", "highest")
    record: dict[str, object] = {"card": torch.cuda.get_device_name(), **versions}
    worst = record["difference from the CPU"] = correctness()
    show(record)
    if not max(worst.values()) < 1e-11:
        return 1
    parts = {"rates": card, "six layers": deep, "two layers": two_layer}
    parts["staircases"] = partial(staircases, 10_000, 10, "cuda")
    for name, part in parts.items():
        begin = time.perf_counter()
        record[name] = part()
        show({name: record[name], "seconds": time.perf_counter() - begin})
        (RESULTS / "benchmarks_gpu.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
