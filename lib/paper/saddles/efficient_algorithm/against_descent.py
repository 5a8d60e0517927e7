"""The algorithm without plateaus against gradient descent on random problems.

What gradient descent does is read from its two runs alone (`reference_runs`): where it rests, and
whether both scales give one answer. Losses are in units of L(0).
"""

import math
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy.optimize import minimize

from learning_dynamics.runtime import generator
from learning_dynamics.saddles.linear_nets.linear import linear_descent
from learning_dynamics.saddles.skipping.algorithm import Skipped, skip_plateaus
from learning_dynamics.saddles.skipping.settings import Settings
from learning_dynamics.saddles.two_layer import Weights, gradient
from paper.claims import Evidence, claim
from paper.records import read_record, write_record
from paper.saddles.efficient_algorithm.reference_runs import (
    EXPERIMENT,
    Reference,
    drawn,
    start_of,
    step_of,
)
from paper.sweep import sweep

__all__ = ["NETS", "Answer", "Config", "Rest", "answer", "compare", "further", "lowered", "run"]

BAND = 1e-3  # a rest: the loss stays within this
SHARE = 0.1  # for at least this share of all steps so far
LEAST = 0.2  # share of a predicted plateau that must be rest
NETS = {"linear": ["linear"], "(leaky) ReLU": ["relu", "leaky_relu(0.2)"], "tanh": ["tanh"]}
MOST = 12  # rests of a run that are kept
RESTS = ("begin", "end", "level", "high", "low")  # fields of `Rest`
SECONDS = 10.0  # of one core, for one problem
SAME = 2e-3  # a saddle's loss and a rest's: twice the band


@dataclass(frozen=True)
class Rest:
    """begin, end : steps. level : the loss where it falls most slowly. high, low : the loss at both
    ends, further apart than the band where a rest goes on in another."""

    begin: int
    end: int
    level: float
    high: float
    low: float

    def near(self, level: float) -> bool:
        """Whether a saddle at this loss can be where it rests."""
        return self.low - SAME <= level <= self.high + SAME


def find_rests(steps: np.ndarray, losses: np.ndarray) -> list[Rest]:
    """Intervals in which a falling loss stays within `BAND` for `SHARE` of the steps so far.

    One that follows another without a gap continues it: a slow approach. The first begins at 0,
    the last, which need not be long, is where the run ends.
    """
    falling = np.minimum.accumulate(losses.astype(float))
    speed = -np.gradient(falling, steps)
    until = np.searchsorted(-falling, -falling + BAND, side="right") - 1
    found: list[list[int]] = []
    i = 0
    while i < len(steps):
        j = int(until[i])
        if j > i and steps[j] - steps[i] >= SHARE * steps[j]:
            if found and i == found[-1][1] + 1:
                found[-1][1] = j
            else:
                found.append([i, j])
            i = j
        i += 1
    return [
        Rest(
            int(steps[a]),
            int(steps[b]),
            float(falling[a + int(speed[a : b + 1].argmin())]),
            float(falling[a]),
            float(falling[b]),
        )
        for a, b in found
    ]


@dataclass(frozen=True)
class Answer:
    """What gradient descent does as epsilon goes to zero, as far as two scales say.

    rests : from the smaller scale, the last one the end. horizon : steps followed from there.
    why   : why it has no defined answer, or "".
    """

    rests: tuple[Rest, ...]
    horizon: int
    why: str


def answer(run: xr.Dataset, scales: Sequence[float]) -> Answer:
    """The answer of two runs (`reference_runs.reference`), or why they give none."""
    steps, curves = run.step.values, run.loss.values
    rests, ends = [], []
    for losses in curves:
        kept = np.isfinite(losses)
        if bool(run.rises.any()) or not kept.any():
            return Answer((), 0, "rises")
        rests.append(find_rests(steps[kept], losses[kept]))
        ends.append(int(steps[kept][-1]))
    large, small = rests
    found = tuple(small)
    if any(not own or own[-1].end < end for own, end in zip(rests, ends, strict=True)):
        return Answer(found, ends[1], "no end")
    if len(large) != len(small) or any(
        abs(a.level - b.level) > BAND for a, b in zip(large, small, strict=True)
    ):
        return Answer(found, ends[1], "scales differ")
    # A step at which something happens is tau log(1/epsilon) + const.: two scales say tau.
    part = math.log(scales[1]) / math.log(scales[1] / scales[0])
    before = 0.0
    for k, (a, b) in enumerate(zip(large, small, strict=True)):
        begun, ended = b.begin - a.begin, b.end - a.end
        weak = begun - before > LEAST * begun  # the drop before grows with log(1/epsilon)
        if k < len(small) - 1:
            weak = weak or b.end - b.begin < LEAST * part * (ended - before)
        if weak:
            return Answer(found, ends[1], "weak rest")
        before = ended
    return Answer(found, ends[1], "")


def skip(config: Reference, step_size: float) -> Skipped:
    """The algorithm on the same problem, from the same dormant units."""
    task = drawn(config.seed)
    return skip_plateaus(
        task.problem,
        width=task.width,
        activation=task.activation,
        loss=task.loss,
        starts=start_of(task, config.seed, 1.0).units[0],
        settings=Settings(step_size=step_size),
    )


def lowered(config: Reference, weights: Weights, size: float = 1e-2, trials: int = 3) -> float:
    """By how much the end can be lowered, in units of L(0).

    All m1 units, dormant ones at zero, are moved at random by `size` of the largest, and descend
    (L-BFGS-B, 500 iterations).
    """
    task, units = drawn(config.seed), weights.units
    start = torch.zeros(max(task.width, len(units)), units.shape[1], dtype=units.dtype)
    start[: len(units)] = units
    m0, best = len(task.problem.inputs), math.inf
    scale = float(units.norm(dim=1).max()) if len(units) else 1.0

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        s = torch.from_numpy(flat.reshape(start.shape))
        net = Weights(s[:, :m0], s[:, m0:].mT)
        state = gradient(net, task.problem, activation=task.activation, loss=task.loss)
        return float(state.loss), state.gradients.units.numpy().ravel()

    for trial in range(trials):
        g = generator("random-two-layer/perturbed", config.seed, trial)
        moved = start + size * scale * torch.randn(start.shape, generator=g, dtype=units.dtype)
        options = {"maxiter": 500, "ftol": 0.0, "gtol": 1e-12}
        end = minimize(value, moved.numpy().ravel(), jac=True, method="L-BFGS-B", options=options)
        best = min(best, float(end.fun))
    here, origin = (value(s.numpy().ravel())[0] for s in (start, torch.zeros_like(start)))
    return (here - best) / origin


def compare(given: Answer, path: Sequence[tuple[float, float]]) -> str:
    """The class of a defined answer and a path: "same", or what differs.

    path : L/L(0) of each saddle, and its predicted plateau in steps. "ends above", "ends below":
    the loss at the end. Else "skips one": gradient descent rests where the path has no saddle;
    "visits another": the path has a saddle, with a plateau long enough to be seen, where gradient
    descent does not rest. What lies beyond the horizon is not compared.
    """
    last = given.rests[-1]
    here = [k for k, (level, _) in enumerate(path) if last.near(level)]
    if here and path[here[-1]][1] > 0.5 * (given.horizon - last.begin):
        path = path[: here[-1] + 1]  # the end is left later than was followed
    end = path[-1][0]
    if end > last.level + SAME:
        return "ends above"
    if end < last.level - SAME:
        return "ends below"
    if not all(any(r.near(level) for level, _ in path) for r in given.rests):
        return "skips one"
    for level, steps in path:
        until = min((r.begin for r in given.rests if r.level < level), default=last.begin)
        if steps > LEAST * until and not any(r.near(level) for r in given.rests):
            return "visits another"
    return "same"


@dataclass(frozen=True)
class Config:
    """problems : numbers of problems of the prior; empty: what the record holds."""

    problems: tuple[int, ...] = ()

    def quick(self) -> "Config":
        return Config(tuple(QUICK))


#: Problems of the short form, three of each activation; 155 ends above gradient descent.
QUICK = (9, 25, 45, 18, 43, 155, 3, 12, 16, 17, 158, 225)
CERTIFIED = ("global", "second-order")
#: Problems of the fair trial of certificates, and its short form, of which the last is wrong.
FURTHER, LATER = range(500, 650), (500, 505, 538)

Judged = dict[str, str | float]


def judge(config: Reference, given: Answer, step_size: float) -> Judged:
    """`compare` and `lowered` for one problem, with the status at the end."""
    if given.why:
        return {"outcome": "", "status": "", "fall": math.nan}
    found = skip(config, step_size)
    first, scale = found.saddles[0].loss, config.scales[1]
    path = [(s.loss / first, s.plateau_steps(scale, step_size)) for s in found.saddles]
    outcome = compare(given, path)
    fall = lowered(config, found.weights) if found.status in CERTIFIED else math.nan
    return {"outcome": outcome, "status": found.status, "fall": fall}


def run(config: Config = Config()) -> xr.Dataset:
    """Each problem's answer by gradient descent, and how the algorithm compares.

    activation, loss, trait, why, outcome, status (problem) : of the problem, of `Answer` ("" where
    it is defined), of `compare` and of the algorithm's end. fall (problem) : `lowered`, where the
    end was certified.
    level, begin, end, high, low (problem, rest) : rests of gradient descent, NaN beyond the last.
    horizon, step_size (problem). The descents are read from the record (`main`); so is all
    the rest if no problem is named.
    """
    record = read_record("skip-against-descent")
    return anew(record.sel(problem=list(config.problems)), judge) if config.problems else record


def anew(record: xr.Dataset, judging: Callable[..., Judged]) -> xr.Dataset:
    """The recorded descents with what the algorithm does on these problems now."""
    found = []
    for at in range(record.problem.size):
        one = record.isel(problem=at)
        rows = one[[*RESTS]].to_dataframe().dropna()[[*RESTS]].to_numpy()
        rests = tuple(Rest(int(begin), int(end), *levels) for begin, end, *levels in rows.tolist())
        given = Answer(rests, int(one.horizon), str(one.why.item()))
        found.append(judging(Reference(int(one.problem)), given, float(one.step_size)))
    return record.assign({n: ("problem", [own[n] for own in found]) for n in found[0]})


def counted(result: xr.Dataset) -> xr.Dataset:
    """The problems of which gradient descent has a defined answer."""
    return result.sel(problem=result.why == "")


def agreement(outcomes: Sequence[str] | pd.Series) -> str:
    """How many are the same: "77 of 78"."""
    return f"{sum(o == 'same' for o in outcomes)} of {len(outcomes)}"


def table(result: xr.Dataset) -> str:
    """Counted problems as a Markdown table, nets down and losses across: how many have the same
    saddles and end, and what the others differ in."""
    frame = counted(result)[["activation", "loss", "outcome"]].to_dataframe()
    frame["loss"] = frame.loss.str.replace("(1)", "").str.capitalize()
    rows = []
    for net, names in NETS.items():
        own = frame[frame.activation.isin(names)]
        other = own.outcome[own.outcome != "same"].value_counts()
        losses = {loss: agreement(part.outcome) for loss, part in own.groupby("loss")}
        differs = ", ".join(f"{n} {name}" for name, n in sorted(other.items()))
        rows.append({"net": net} | losses | {"all": agreement(own.outcome), "differs": differs})
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


@claim("saddles/skip-against-descent", Config, run)
def same_path(result: xr.Dataset) -> Evidence:
    """Shares of problems with the same saddles and end: linear nets, (leaky) ReLU nets."""
    own = counted(result)
    kinds = {k: own.activation.isin(names) for k, names in NETS.items()}
    shares = {k: own.outcome[kind] == "same" for k, kind in kinds.items()}
    details = {
        "counted": [same.size for same in shares.values()],
        "tanh": shares["tanh"].mean(),
        "drawn": result.problem.size,
    }
    measured = [float(shares[k].mean()) for k in ("linear", "(leaky) ReLU")]
    return Evidence(measured, 1.0, [0.0, 0.05], own.problem, details)


def end(problem: int) -> Judged:
    """The status at the algorithm's end and, where it is certified, `lowered`."""
    config, task = Reference(problem), drawn(problem)
    found = skip(config, step_of(task))
    tried = found.status in CERTIFIED and bool(task.problem.targets.any())
    return {"status": found.status, "fall": lowered(config, found.weights) if tried else math.nan}


def further(config: Config = Config()) -> xr.Dataset:
    """`end` of problems drawn after the algorithm was mended on those of `run`: the fair trial.

    status, fall (problem). They need no answer of gradient descent. Read from the record (`main`);
    the short form computes `LATER`.
    """
    return ends(LATER, end) if config.problems else read_record("skip-certificates")


def ends(problems: Sequence[int], ending: Callable[[int], Judged]) -> xr.Dataset:
    """The Dataset of `further`."""
    rows = pd.DataFrame([ending(problem) for problem in problems])
    data = {name: ("problem", list(rows[name])) for name in rows}
    return xr.Dataset(data, coords={"problem": list(problems)})


@claim("saddles/skip-certificates", Config, run, further)
def certificates(result: xr.Dataset, later: xr.Dataset) -> Evidence:
    """How far certified ends can be lowered, in units of L(0): counted problems, further ones."""
    falls = [own.fall.sel(problem=own.fall.notnull()) for own in (counted(result), later)]
    details = {"false": [int((fall > 1e-6).sum()) for fall in falls]}
    details["certified"] = [fall.size for fall in falls]
    seeds = [int(problem) for fall in falls for problem in fall.problem]
    return Evidence([float(fall.max()) for fall in falls], 0.0, 1e-6, seeds, details)


def at_smaller_scales(result: xr.Dataset, seed: int) -> pd.DataFrame:
    """How many steps a linear net stays at each level, by epsilon: exact reductions.

    The levels are those of the recorded rests and of the algorithm's saddles but for the origin
    and the end; at a level it is while L/L(0) lies within `SAME` of it. What is a saddle of the
    limit is left after a number of steps that grows as log(1/epsilon).
    """
    task, one = drawn(seed), result.sel(problem=seed)
    eta = float(one.step_size)
    found = skip(Reference(seed), eta).losses
    levels = {*one.level.values[one.level.notnull()], *(v / found[0] for v in found)}
    inner = sorted(levels, reverse=True)
    inner = [v for i, v in enumerate(inner) if all(abs(v - u) > SAME for u in inner[:i])][1:-1]
    last, rows = float(one.begin.max()), []
    for scale in (1e-14, 1e-30, 1e-60):
        start = start_of(task, seed, scale)
        steps = int(1.5 * last * math.log(scale) / math.log(Reference(seed).scales[1]))
        run = linear_descent(start, task.problem, step_size=eta, steps=steps)
        at, losses = run.steps.numpy(), (run["loss"][0] / run["loss"][0, 0]).numpy()
        stays = [int(np.ptp(at[abs(losses - v) < SAME])) for v in inner]
        rows.append([f"{scale:.0e}", *stays])
    return pd.DataFrame(rows, columns=["epsilon", *(f"steps at {v:.4f} L(0)" for v in inner)])


class _Slow(Exception):
    pass


def _stop(*_: object) -> None:
    raise _Slow


def _limited(judging: Callable[..., Judged], *arguments: Any) -> Judged:
    """What is found within `SECONDS` of one core, or "slow" or "raises" as outcome or status."""
    signal.signal(signal.SIGVTALRM, _stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        return judging(*arguments)
    except (_Slow, ValueError, IndexError) as error:
        what = "slow" if isinstance(error, _Slow) else "raises"
        judged = {"outcome": what, "status": ""} if judging is judge else {"status": what}
        return judged | {"fall": math.nan}
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def described(config: Reference, descents: xr.Dataset) -> dict[str, Any]:
    """What the record says of one problem and of gradient descent's two runs."""
    task, given = drawn(config.seed), answer(descents, config.scales)
    kind = {"activation": task.activation.name, "loss": task.loss.name, "trait": task.trait}
    own = {"why": given.why, "horizon": given.horizon, "step_size": float(descents.step_size)}
    rests = np.full((len(RESTS), MOST), math.nan)
    for name, row in zip(RESTS, rests, strict=True):
        values = [getattr(rest, name) for rest in given.rests[:MOST]]
        row[: len(values)] = values
    return kind | own | dict(zip(RESTS, rests, strict=True))


def main() -> None:
    """`python -m paper.saddles.efficient_algorithm.against_descent STORE PROBLEMS`: the record.

    Without arguments: the algorithm once more, against the recorded descents. Its further ends.
    """
    if len(sys.argv) > 1:
        configs = [Reference(seed) for seed in range(int(sys.argv[2]))]
        runs = sweep(EXPERIMENT, configs, store=sys.argv[1])
        rows = [described(c, descents) for c, descents in zip(configs, runs, strict=True)]
        variables: dict[str, Any] = {
            name: (("problem", "rest") if name in RESTS else "problem", [row[name] for row in rows])
            for name in rows[0]
        }
        record = xr.Dataset(variables, coords={"problem": [c.seed for c in configs]})
        record.attrs["computed by"] = "paper.saddles.efficient_algorithm.against_descent"
    else:
        record = read_record("skip-against-descent")
    write_record("skip-against-descent", anew(record, partial(_limited, judge)))
    write_record("skip-certificates", ends(FURTHER, partial(_limited, end)))


if __name__ == "__main__":
    main()
