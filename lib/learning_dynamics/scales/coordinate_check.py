"""The coordinate check: is this network, with this optimizer and this loss, scaled as intended?

It runs the user's own steps at several sizes and fits exponents ({cite}`yang2022` looks at curves).
What it measures belongs to single parameters and does not depend on how the signal gets there: the
response of a layer to the inputs that it really saw, to its initial weights and to their change;
and the loss that the change removes to first order, which no reparametrization touches.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from learning_dynamics.runtime import check_integer, check_positive, generator
from learning_dynamics.scales.applying import Parametrized, Weight, weights_of
from learning_dynamics.scales.parametrizations import Scheme
from learning_dynamics.scales.parametrizations import scheme as find_scheme

__all__ = ["QUANTITIES", "TOLERANCES", "coordinate_check"]

#: Quantity -> what it is; t is the step, h the input of the layer at the start, g a multiplier
#: inside of the module; RMS over the batch.
QUANTITIES = {
    "initial": "g fan_in^(1/2) RMS of W_0: RMS of g W_0 h for an h of RMS 1 that W_0 does not know",
    "change": "RMS of g (W_t - W_0) h over RMS of h",
    "budget": "loss that the first change of W removes, -<dL/dW, W_1 - W_0>",
    "rate": "effective rate of gradient descent: g^2 |W_1 - W_0|^2 / budget",
    "output": "RMS of the network's change, f_t - f_0",
    "schedule": "rate in use over the rate that the optimizer was given",
}
#: What a verdict allows beyond the interval, for finite sizes and rounding, by dtype of parameters.
TOLERANCES = {torch.float64: 0.15, torch.float32: 0.15, torch.bfloat16: 0.2, torch.float16: 0.2}
#: The schemes whose exponents a line may exclude.
KNOWN = ("standard", "ntk", "mup-package", "spectral", "dp(1/4)", "dp(1/2)")

#: What `parametrize` calls an optimizer -> the classes that its rates and decays are for.
CLASSES = {"sgd": "SGD", "adam": "Adam NAdam", "adamw": "AdamW NAdam", "muon": "Muon AdamW"}


def _rms(value: Tensor) -> float:
    return float(value.detach().double().square().mean().sqrt())


#: Class of an optimizer, or of one that it is derived from -> what its steps are like.
KINDS = {"SGD": "sgd", "Adam": "adam", "AdamW": "adam", "NAdam": "adam", "Muon": "muon"}


def _class(optimizer: torch.optim.Optimizer) -> str:
    """The class as `KINDS` knows it: its own, or the nearest that it is derived from."""
    for kind in type(optimizer).__mro__:
        if kind.__name__ in KINDS:
            return kind.__name__
    raise ValueError(
        f"optimizer_factory: gave a {type(optimizer).__name__}; known are {', '.join(KINDS)} and "
        "what is derived from them"
    )


def _refuse(
    built: nn.Module | Parametrized,
    optimizers: Sequence[torch.optim.Optimizer],
    schedulers: Sequence[Any],
) -> None:
    """What goes wrong outside of the steps that are measured."""
    fit = CLASSES[built.optimizer].split() if isinstance(built, Parametrized) else []
    for optimizer in optimizers if fit else ():
        name = _class(optimizer)
        if name not in fit:
            raise ValueError(
                f"optimizer_factory: gave a {name}, but the rates are for {' or '.join(fit)}: "
                "name the optimizer that you use in parametrize(..., optimizer)"
            )
        given = optimizer.defaults.get("weight_decay", 0)
        usual = {"AdamW": 0.01, "Muon": 0.1}.get(name, 0.0)  # torch's own
        if given not in (0, usual) and not any(
            g.get("weight_decay") for g in optimizer.param_groups
        ):
            raise ValueError(
                f"optimizer_factory: weight_decay = {given} has no effect, as groups carry their "
                "own: give it to param_groups(lr, weight_decay)"
            )
    rates = {float(group["lr"]) for o in optimizers for group in o.param_groups}
    for scheduler in (part for s in schedulers for part in getattr(s, "_schedulers", [s])):
        name, floor = type(scheduler).__name__, getattr(scheduler, "eta_min", 0)
        if name == "ReduceLROnPlateau":
            raise ValueError(
                f"scheduler_factory: gave a {name}, which steps by a measured loss: check without "
                "it, and keep its min_lr at 0, as one floor takes the ratios of the rates away"
            )
        if floor and len(rates) > 1:
            raise ValueError(
                f"scheduler_factory: eta_min = {floor} of {name} is one floor for groups of unlike "
                "rates, whose ratios it takes away in the end: take eta_min=0, or LambdaLR"
            )


def _modules(built: Any) -> tuple[nn.Module, nn.Module]:
    """What a factory gave, as it is called, and without what torch.compile wraps it in."""
    model = built.model if isinstance(built, Parametrized) else built
    return model, getattr(model, "_orig_mod", model)


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Forward passes in here leave buffers and random streams as they were, and use stream 0."""
    kept = {name: b.clone() for name, b in model.named_buffers()}
    with torch.random.fork_rng(), torch.no_grad():
        torch.default_generator.manual_seed(0)  # torch.manual_seed is slow where no GPU is in use
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(0)
        yield
        for name, b in model.named_buffers():
            b.copy_(kept[name])


def _observe(
    model: nn.Module, loss: Callable[..., Tensor], batch: Any
) -> tuple[dict[nn.Module, tuple[Any, ...]], Tensor | None]:
    """Inputs of every module at its first call, and the network's output."""
    seen: dict[nn.Module, tuple[Any, ...]] = {}
    outputs: list[Any] = []

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        named = tuple(kwargs[k] for k in ("input", "query", "key", "value") if k in kwargs)
        seen.setdefault(module, (*args, *named))

    hooks = [
        m.register_forward_pre_hook(look, prepend=True, with_kwargs=True)
        for m in model.modules()
        if m._parameters
    ]
    hooks.append(model.register_forward_hook(lambda m, i, output: outputs.append(output)))
    with _undisturbed(model):
        loss(model, batch)
        for hook in hooks:
            hook.remove()
        for m in [m for m in seen if isinstance(m, nn.MultiheadAttention)]:
            whole = {"out_proj.weight": torch.eye(m.embed_dim).to(m.out_proj.weight)}
            if m.out_proj.bias is not None:
                whole["out_proj.bias"] = torch.zeros_like(m.out_proj.bias)
            seen[m.out_proj] = (functional_call(m, whole, seen[m][:3])[0],)
    first = outputs[0] if outputs else None
    return seen, first if isinstance(first, Tensor) else None


def _response(
    module: nn.Module, own: str, value: Tensor, inputs: tuple[Any, ...]
) -> tuple[float, float]:
    """(RMS that the parameter called `own` adds to the output over RMS of the input, multiplier g).

    Of gains, shifts and positions, which meet signals of RMS 1 or none, the RMS itself. The
    multiplier is what the module adds to the plain operation by hooks or a forward() of its own.
    """
    if isinstance(module, nn.MultiheadAttention) and "weight" in own:
        h = inputs[{"k": 1, "v": 2}.get(own[0], 0)]
        return _rms(nn.functional.linear(h, value)) / _rms(h), 1.0
    if not isinstance(module, nn.Linear | nn.Embedding | _ConvNd) or own != "weight":
        return _rms(value), 1.0
    own_parameters = {name: p for name, p in module._parameters.items() if p is not None}
    kept = {name: p.clone() for name, p in own_parameters.items()}
    for name, p in own_parameters.items():  # in place: a forward() may read attributes of these
        p.copy_(value) if name == own else p.zero_()
    answer = _rms(module(inputs[0]))
    if not isinstance(module, nn.Embedding) and not _rms(inputs[0]):
        raise ValueError(f"batch: what {type(module).__name__} sees of it is zero: no response")
    for name, p in own_parameters.items():
        p.copy_(kept[name])
    if isinstance(module, nn.Embedding):
        return answer, 1.0
    bare = answer
    if isinstance(module, nn.Linear):
        bare = _rms(nn.functional.linear(inputs[0], value))
    elif not isinstance(module, _ConvTransposeNd):
        bare = _rms(module._conv_forward(inputs[0], value, None))
    return answer / _rms(inputs[0]), answer / (bare or 1.0)


Key = tuple[str, str, int]


def _uses(weights: Sequence[Weight]) -> list[tuple[str, Weight]]:
    """Every parameter by name, and a tied one a second time as the readout that it also is."""
    found = []
    for w in weights:
        found.append((next(n for n in w.names if n.rpartition(".")[0] not in w.readouts), w))
        for layer in w.readouts:
            found.append((f"{layer}.weight", w.as_readout()))
    return found


def _measure(
    built: nn.Module | Parametrized,
    uses: Sequence[tuple[str, Weight]],
    optimizer_factory: Callable[..., Any],
    scheduler_factory: Callable[..., Any] | None,
    loss: Callable[..., Tensor],
    batch: Any,
    steps: int,
) -> tuple[dict[Key, float], dict[str, str], set[tuple[str, int]]]:
    """(parameter, quantity, step) -> value; the kind of optimizer of each parameter; and at which
    (parameter, step) the gradient is rounding."""
    model, plain = _modules(built)
    given = optimizer_factory(built)
    optimizers = [given] if isinstance(given, torch.optim.Optimizer) else list(given)
    groups = [(KINDS[_class(o)], group) for o in optimizers for group in o.param_groups]
    kinds = {id(p): kind for kind, group in groups for p in group["params"]}
    wanted = {id(p): float(group["lr"]) for _, group in groups for p in group["params"]}
    made = [] if scheduler_factory is None else scheduler_factory(given)
    schedulers = list(made) if isinstance(made, list | tuple) else [made]
    _refuse(built, optimizers, schedulers)
    owners = {}
    for name, _ in uses:
        path, _, own = name.rpartition(".")
        owners[name] = (plain.get_submodule(path), own)
    start = {name: w.value.detach().clone() for name, w in uses}
    seen, before = _observe(plain, loss, batch)
    found: dict[Key, float] = {}
    rounding = set()

    def response(name: str, value: Tensor) -> tuple[float, float]:
        module, own = owners[name]
        if module not in seen:  # used by hand
            return _rms(value), 1.0
        with _undisturbed(module):
            return _response(module, own, value, seen[module])

    for name, w in uses:
        if w.value.ndim > 1 and bool((w.value != w.value.flatten()[0]).any()):
            g = response(name, start[name])[1]
            found[name, "initial", 0] = g * math.sqrt(w.fan_in) * _rms(start[name])
    for step in range(1, steps + 1):
        rates = {id(p): float(group["lr"]) for _, group in groups for p in group["params"]}
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss(model, batch).backward()
        for optimizer in optimizers:
            optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
        if step not in (1, steps):
            continue
        gradients = {name: w.value.grad for name, w in uses if w.value.grad is not None}
        largest = max(map(_rms, gradients.values()), default=0.0)
        for name, w in uses:
            kind = kinds.get(id(w.value))
            if name not in gradients:
                continue
            if kind is None:
                found[name, "change", step] = 0.0
                continue
            moved = w.value.detach() - start[name]
            # Rounding errors alone, as of a bias that normalisation takes away again: no signal.
            if _rms(gradients[name]) < torch.finfo(moved.dtype).eps ** 0.75 * largest:
                moved.zero_()
                rounding.add((name, step))
            found[name, "change", step], g = response(name, moved)
            if wanted[id(w.value)] > 0:
                found[name, "schedule", step] = rates[id(w.value)] / wanted[id(w.value)]
            if step == 1 and not (w.tied and w.role == "readout"):
                budget = -float((gradients[name].double() * moved.double()).sum())
                found[name, "budget", 1] = budget
                if kind == "sgd":
                    square = float(moved.double().square().sum())
                    found[name, "rate", 1] = g**2 * square / (budget or 1.0)
        after = _observe(plain, loss, batch)[1]
        if before is not None and after is not None:
            found["(output)", "output", step] = _rms(after - before)
    return found, {n: kinds[id(w.value)] for n, w in uses if id(w.value) in kinds}, rounding


def _expected(w: Weight | None, quantity: str, scheme: Scheme, kind: str, counted: bool) -> float:
    """The scheme's number, up to a constant; NaN where it says nothing.

    counted : whether gradients have the order that the scheme counts on, which makes every layer's
              budget of order one: not for "standard", and for widths of unlike orders DP alone.
    """
    counted = counted and not (w and w.fixed)  # nor where gradients are sums over a whole layer
    if quantity == "schedule" or (quantity in ("budget", "output") and counted):
        return 1.0
    if w is None or quantity == "budget":
        return math.nan
    s = w.scales(scheme, kind)
    if quantity == "initial":
        return s["std"] * math.sqrt(w.fan_in)
    if quantity == "rate":
        return s["sgd"]
    if kind == "sgd":
        return math.sqrt(s["sgd"] * w.fan_in / w.fan_out) if counted else math.nan
    return s["rate"] * (
        math.sqrt(w.fan_in / w.fan_out) if kind == "muon" and w.matrix else w.fan_in
    )


def _slope(sizes: np.ndarray, values: np.ndarray) -> float:
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _fit(sizes: np.ndarray, values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Slope of the mean logarithm of (size, run), and its half-width (Welch and Satterthwaite)."""
    x = np.log(sizes) - np.log(sizes).mean()
    weight, logs = x / (x @ x), np.log(values)
    runs = values.shape[1]
    parts = weight**2 * logs.var(1, ddof=1) / runs
    if not parts.sum() > 0:
        return float(weight @ logs.mean(1)), 0.0
    freedom = parts.sum() ** 2 / (parts**2).sum() * (runs - 1)
    quantile = stats.t.ppf(0.5 + level / 2, freedom)
    return float(weight @ logs.mean(1)), float(quantile * math.sqrt(parts.sum()))


def _verdict(
    sizes: np.ndarray, values: np.ndarray, wanted: np.ndarray, tolerance: float, rows: int
) -> dict[str, Any]:
    """Fit and verdict of one of `rows`; values (size, run), wanted: the scheme's numbers."""
    if not np.isfinite(values).all():
        return {"verdict": "diverged"}
    if not (values > 0).all():
        return {"verdict": "still"}
    slope, interval = _fit(sizes, values)
    line = {"exponent": slope, "interval": interval, "predicted": math.nan, "verdict": "no rule"}
    if np.isnan(wanted).any():
        return line
    predicted = line["predicted"] = _slope(sizes, wanted)
    off = abs(slope - predicted)
    # One of many rows is outside by chance: a difference must be beyond an interval that all rows
    # keep together, or, as that explodes where one size alone has any spread, beyond three.
    reach = min(_fit(sizes, values, 1 - 0.05 / rows)[1], 3 * interval)
    if off <= tolerance + reach:
        sure = off <= interval + tolerance and interval <= 0.25
        return {**line, "verdict": "agrees" if sure else "unclear"}
    line["verdict"] = "differs"
    half, relative = len(sizes) // 2 + 1, values / wanted[:, None]
    (low, low_error), (high, high_error) = (
        _fit(sizes[part], relative[part]) for part in (slice(half), slice(-half, None))
    )
    # A finite-size correction n^-p leaves a slope that falls as n^-p towards the prediction.
    if len(sizes) > 2 and low * high > 0 and abs(low) - abs(high) > low_error + high_error:
        n_low, n_high = (math.exp(np.log(part).mean()) for part in (sizes[:half], sizes[-half:]))
        power = math.log(low / high) / math.log(n_high / n_low)
        if power >= 0.25:
            enough = math.log2(n_high) + math.log2(abs(high) / tolerance) / power
            line |= {"verdict": "sizes too small", "enough": 2 ** math.ceil(enough)}
    return line


def coordinate_check(
    factory: Callable[[int], Any],
    scheme: str | Scheme,
    optimizer_factory: Callable[..., Any],
    loss: Callable[..., Tensor],
    batch: Any,
    sizes: Sequence[int],
    scheduler_factory: Callable[..., Any] | None = None,
    steps: int = 3,
    *,
    runs: int = 4,
    readouts: Collection[str] | None = None,
    embeddings: Collection[str] = (),
    tolerance: float | None = None,
    seed: int | str = "coordinate check",
) -> pd.DataFrame:
    """Whether networks scale as `scheme` says, by `steps` real steps at every size.

    factory           : size -> the network as you train it: what `parametrize` returns, or a
                        module scaled by other means, compiled or not, on any device. Multipliers
                        must act inside the modules that own the weights.
    optimizer_factory : what `factory` gave -> its optimizer, or a list of them: SGD, Adam, AdamW,
                        NAdam, Muon. scheduler_factory : that -> scheduler(s), stepped every step.
    loss              : (module, batch) -> scalar.
    sizes             : at least two; three or more can tell small sizes from a wrong exponent.
    runs              : draws for each size, at least 2. readouts, embeddings: as in `parametrize`.
    tolerance         : what is allowed beyond the interval; None: `TOLERANCES` of the dtype.
    Returns one row for each `parameter`, `quantity` (see `QUANTITIES`) and `step`: fitted
    `exponent` with its 95 % `interval`, `predicted`, `verdict`, `enough` and `rejects`.
    verdict: "agrees" within interval and tolerance, if the interval is at most 0.25; "differs"
    beyond the tolerance and an interval that all rows keep together (at most three intervals);
    "sizes too small" if such a difference falls as sizes grow, with the size that would be
    `enough`; "unclear" between these; "no rule" where the scheme predicts nothing; "still" if
    nothing moved; "untrained" if it has a gradient and no optimizer; "diverged".
    `attrs["passed"]`: no row differs, nor even with larger sizes to come; nothing diverged, is
    untrained or still (but for gradients that are rounding alone, as of a bias before batch norm);
    and every unclear exponent is known to 0.5 and is not off by more than both the tolerance and
    its own interval.
    `rejects` names the other schemes that this row excludes; `attrs["not rejected"]` those that no
    row that agrees does, which the check therefore cannot tell from the one asked for.
    Predictions are for the first steps; row for row, later steps are measured against them.
    Raises ValueError for optimizers that are unknown or not what `parametrize` was told, a decay
    that the groups override, one `eta_min` for unlike rates, ReduceLROnPlateau, and networks that
    `parametrize` cannot read.

    >>> import torch
    >>> from torch import nn
    >>> from learning_dynamics import scales
    >>> def net(n):
    ...     return nn.Sequential(nn.Linear(8, n), nn.ReLU(), nn.Linear(n, n), nn.Linear(n, 2))
    >>> x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    >>> rows = scales.coordinate_check(
    ...     lambda n: scales.parametrize(net, n, 32, "mup-package", "adam"), "mup-package",
    ...     lambda built: torch.optim.Adam(built.param_groups(1e-3)),
    ...     lambda model, x: model(x).square().mean(), x, (32, 64, 128))
    >>> rows[rows.verdict == "differs"].empty
    True
    """
    rule = find_scheme(scheme)
    check_integer("steps", steps, least=1)
    check_integer("runs", runs, least=2)
    if len(set(sizes)) < 2:
        raise ValueError(f"sizes = {tuple(sizes)}: at least two different sizes are needed")
    if tolerance is not None:
        check_positive("tolerance", tolerance)
    sizes = sorted(set(sizes))
    grid = np.array(sizes)

    with torch.random.fork_rng():
        twins = {n: _modules(factory(n))[1] for n in (sizes[0], sizes[-1])}
        table: dict[Key, list[float]] = {}
        widths: dict[str, list[Weight]] = {}
        noise: set[tuple[str, int]] = set()
        for n in sizes:
            for run in range(runs):
                torch.manual_seed(generator(seed, n, run).initial_seed())
                built = factory(n)
                pair = _modules(built)[1], twins[sizes[-1] if n == sizes[0] else sizes[0]]
                uses = _uses(weights_of(*pair, readouts=readouts, embeddings=embeddings))
                found, kinds, rounding = _measure(
                    built, uses, optimizer_factory, scheduler_factory, loss, batch, steps
                )
                noise |= rounding
                for key, value in found.items():
                    table.setdefault(key, []).append(value)
            for name, w in uses:
                widths.setdefault(name, []).append(w)
        odd = [name for name, ws in widths.items() if len({w.stands() for w in ws}) > 1]
        if odd:
            raise ValueError(f"factory: {odd}: other widths grow between some sizes than others")
    if tolerance is None:
        tolerance = TOLERANCES.get(uses[0][1].value.dtype, 0.15)
    ends = [[w.narrow, w.wide] for w in widths[uses[0][0]]]
    alike = float(np.ptp([_slope(grid, end) for end in np.array(ends).T])) < 0.1

    def numbers(s: Scheme, name: str, quantity: str) -> np.ndarray:
        counted = s.name != "standard" and (alike or s.name == "ntk" or s.name[:3] == "dp(")
        kind, entries = kinds.get(name, "sgd"), widths.get(name, [None] * len(sizes))
        return np.array([_expected(w, quantity, s, kind, counted) for w in entries])

    table = {key: values for key, values in table.items() if len(values) == len(sizes) * runs}
    rows, passed = [], any(key[1] == "change" for key in table)
    for (name, quantity, step), values in table.items():
        measured, exact = np.array(values).reshape(len(sizes), runs), quantity == "schedule"
        allowed = 1e-3 if exact else tolerance
        line = _verdict(grid, measured, numbers(rule, name, quantity), allowed, len(table))
        if quantity == "change" and name not in kinds:
            line["verdict"] = "untrained"
        passed &= line["verdict"] in ("agrees", "no rule") or (
            (name, step) in noise
            if line["verdict"] == "still"
            else line["verdict"] == "unclear"
            and abs(line["exponent"] - line["predicted"]) <= max(allowed, line["interval"])
            and line["interval"] <= 0.5  # half a power: what lies between two schemes
        )
        line["rejects"] = ()
        if "exponent" in line and not exact:
            reach = line["interval"] + tolerance
            others = {s: numbers(find_scheme(s), name, quantity) for s in KNOWN if s != rule.name}
            line["rejects"] = tuple(
                s
                for s, wrong in others.items()
                if not np.isnan(wrong).any() and abs(line["exponent"] - _slope(grid, wrong)) > reach
            )
        rows.append({"parameter": name, "quantity": quantity, "step": step, **line})
    columns = ["parameter", "quantity", "step", "exponent", "interval", "predicted", "verdict"]
    result = pd.DataFrame(rows, columns=[*columns, "enough", "rejects"])
    caught = {s for names in result.rejects[result.verdict == "agrees"] for s in names}
    result.attrs["not rejected"] = tuple(s for s in KNOWN if s not in {*caught, rule.name})
    result.attrs["passed"] = bool(passed)
    return result
