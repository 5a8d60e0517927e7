"""One law for optimisers: log(1 + eta s) gives way to the growth of the optimiser's own recursion.

Momentum is judged through three drops of random problems, minibatches at the first escape, where
what is predicted is the Lyapunov exponents of a random product of matrices.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice, repeat

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.kernels.weights import linear_force
from learning_dynamics.problems import Moments, Problem
from learning_dynamics.runtime import check_alive, check_choice, check_share, generator
from learning_dynamics.saddles.linear_nets.modes import grade_rows, mode_values, stack_moments
from learning_dynamics.saddles.theory import staircase
from learning_dynamics.saddles.theory.alignment import modes_at_escape, update_matrix
from learning_dynamics.saddles.theory.growth_bound import growth_bound, leading_projector
from learning_dynamics.saddles.theory.stages import crossing_steps
from paper.claims import Evidence, claim
from paper.fits import fit_slope, mean_interval
from paper.records import provenance, read_record, write_record
from paper.saddles.random_linear import problems_with_gaps, unit_starts

__all__ = ["Config", "bound", "compute", "lyapunov", "one_law", "root", "run", "trained"]

WIDTH, INPUTS, ESCAPED = 10, 6, 0.1  # hidden units and coordinates, m0, sigma_k(S) at an escape
NARROW, EVERY = 4, 3  # hidden units, and steps between records, of the runs on minibatches
#: Stated before anything was measured: relative errors allowed with momentum and with minibatches
#: (the task's own), and of later exponents, which are shares of log(1/epsilon), in absolute terms.
ALLOWED, NOISY = 0.02, 0.03

#: As torch has them, from parameters and a rate. The small numbers that guard their divisions
#: would turn a start below them into one of plain gradient descent.
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "gradient descent": torch.optim.SGD,
    "heavy ball": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9),
    "Nesterov": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True),
    "Adam": lambda p, lr: torch.optim.Adam(p, lr, eps=1e-100),
    "Muon": lambda p, lr: torch.optim.Muon(p, lr, weight_decay=0.0, eps=1e-30),
}


@dataclass(frozen=True)
class Config:
    """problems, scales : of the runs with momentum. steps : eta s_1 for each momentum.
    batches, shuffled : sizes, out of 40 samples, of minibatches drawn with replacement, and of
    those that share out the samples in a new order each pass; noisy_problems, runs, noisy_scales,
    noisy_step : how many problems and runs of each, epsilon and eta s_1.
    chain : steps of each of `runs` chains for the Lyapunov exponents. recorded : read all from the
    record, which `main` computes in a minute or two.
    """

    problems: int = 6
    scales: tuple[float, ...] = (1e-20, 1e-40, 1e-60)
    steps: tuple[tuple[float, float], ...] = ((0.5, 0.5), (0.9, 0.05), (0.99, 0.002))
    batches: tuple[int, ...] = (1, 4, 40)
    shuffled: tuple[int, ...] = (1, 4)
    noisy_problems: int = 3
    runs: int = 400
    noisy_scales: tuple[float, float] = (1e-12, 1e-36)
    noisy_step: float = 0.15
    chain: int = 1000
    recorded: bool = True

    def quick(self) -> "Config":
        return replace(
            self,
            problems=2,
            steps=((0.9, 0.05),),
            batches=(2,),
            shuffled=(2,),
            noisy_problems=1,
            runs=150,
            noisy_scales=(1e-12, 1e-30),
            chain=600,
            recorded=False,
        )


def root(
    rates: Float[Tensor, "*runs mode"], step_size: float | Tensor, momentum: float, kind: str
) -> Float[Tensor, "*runs mode"]:
    """z(s) > 1: what a mode of rate s > 0 is multiplied by per step, in the long run.

    Near a saddle a mode obeys v+ = beta v + s w and w+ = w + eta v+ (heavy ball), or
    w+ = w + eta (s w + beta v+) (Nesterov, as torch has it); z is the larger root of
    z^2 - (1 + beta + eta s) z + beta, or z^2 - (1 + beta)(1 + eta s) z + beta (1 + eta s).

    >>> import torch
    >>> root(torch.tensor([0.0, 1.0]), 0.1, 0.0, "heavy ball")  # no momentum: 1 + eta s
    tensor([1.0000, 1.1000])
    """
    check_choice("kind", kind, ("heavy ball", "Nesterov"))
    if momentum:
        check_share("momentum", momentum)
    u = 1 + step_size * rates
    total, product = (momentum + u, 1) if kind == "heavy ball" else (u + momentum * u, u)
    return (total + (total**2 - 4 * momentum * product).sqrt()) / 2


def three_drops(
    batch: Sequence[Moments],
    eta: Float[Tensor, " problem"],
    scales: Sequence[float],
    kind: str = "heavy ball",
    beta: float = 0.0,
) -> xr.Dataset:
    """Every problem from every scale through its third drop, with one kind of momentum.

    power_measured, pace_measured (problem, escape) : slope, in log(epsilon), of
    log sigma_{k+1}(S)/sigma_k(S) where sigma_k(S) passes 0.1 for drop k, and, in log(1/epsilon), of
    the step at which it does; power, pace : predicted; plain_power : that of plain descent.
    """
    grid, all_runs = (len(batch), len(scales)), stack_moments(batch, len(scales))
    rates = staircase.predict_staircase(stack_moments(batch)).rates
    growth = root(rates, eta[:, None, None], beta, kind)
    # The recursion takes rates, and makes 1 + eta s of them: give it (z - 1)/eta.
    times, powers = staircase.recursion((growth - 1) / eta[:, None, None], eta)
    plain = staircase.recursion(rates, eta)
    pace = times / eta[:, None]
    steps = int(-1.1 * math.log(min(scales)) * float(pace[:, 2].max()) + 20 / (1 - beta))
    every = max(1, int(0.8 / float(growth.max().log())))
    s = unit_starts(len(batch), scales, (WIDTH, WIDTH))
    both, e = torch.cat([s, torch.zeros_like(s)], -1), eta.repeat_interleave(len(scales))
    e, modes = e[:, None, None], []
    for t in range(steps + 1):
        if t % 20 == 0:
            check_alive(both, t, e)
            both = grade_rows(both)  # momentum, too, commutes with rotations of hidden units
        s, v = both[..., :WIDTH], both[..., WIDTH:]
        if t % every == 0:
            modes.append(mode_values(s))
        force = _force(s, all_runs.xx, all_runs.yx)
        v = beta * v + force
        both = torch.cat([s + e * (v if kind == "heavy ball" else force + beta * v), v], -1)
    ratio, time = _escapes(torch.stack(modes, 1), torch.arange(0, steps + 1, every), 3)
    data, logs = {}, xr.DataArray(np.log(np.array(scales)), dims="scale")
    for name, x, way in (("power", ratio, 1), ("pace", time, -1)):
        values = xr.DataArray(x.reshape(*grid, 3), dims=("problem", "scale", "escape"))
        data[f"{name}_measured"] = fit_slope(way * logs, values).slope
    theory = {"power": powers, "pace": pace, "plain_power": plain[1]}
    data |= {name: (("problem", "escape"), x[:, :3]) for name, x in theory.items()}
    return xr.Dataset(data)


def _escapes(modes: Tensor, steps: Tensor, many: int) -> tuple[Tensor, Tensor]:
    """log sigma_{k+1}(S)/sigma_k(S) and the step at each escape (run, escape), from sigma(S)."""
    level = modes.new_full((len(modes), 1), -math.log(ESCAPED))
    at = [modes_at_escape(modes, k + 1, ESCAPED) for k in range(many)]
    ratios = [(values[:, k + 1] / values[:, k]).log() for k, values in enumerate(at)]
    times = [crossing_steps(-modes[..., k].log(), level, steps)[:, 0] for k in range(many)]
    return torch.stack(ratios, -1), torch.stack(times, -1)


def batches(
    problem: Problem, batch: int, runs: int, shuffled: bool, seed: str
) -> Iterator[tuple[Float[Tensor, "runs m0 m0"], Float[Tensor, "runs m2 m0"]]]:
    """Second moments of one minibatch after the other, a row for each of `runs`."""
    x, y = problem.inputs.mT, problem.targets.mT
    products = torch.cat([x, y], -1)[:, :, None] * x[:, None, :]  # (n, m0 + m2, m0)
    n, source = len(products), generator("one-law", seed, batch, int(shuffled))
    for step in count():
        if shuffled:
            at = step * batch % n
            if at == 0:  # a pass begins
                order = torch.rand(runs, n, generator=source).argsort(-1)
            picked = order[:, at : at + batch]
        else:
            picked = torch.randint(n, (runs, batch), generator=source)
        share = torch.full(picked.shape, 1 / picked.shape[1], dtype=torch.float64)
        weights = torch.zeros(runs, n, dtype=torch.float64).scatter_add_(1, picked, share)
        moments = (weights @ products.flatten(1)).unflatten(1, products.shape[1:])
        yield moments[:, : x.shape[1]], moments[:, x.shape[1] :]


def _force(s: Tensor, xx: Tensor, yx: Tensor) -> Tensor:
    """-dL/dS of a linear net on samples with these second moments."""
    return linear_force(s, yx - s[..., INPUTS:].mT @ s[..., :INPUTS] @ xx)


def lyapunov(
    problem: Problem, eta: float, batch: int, shuffled: bool, chains: int, steps: int
) -> Float[Tensor, "chain mode"]:
    """The two largest Lyapunov exponents per step of the product of I - eta M_t at the origin, as
    each of the chains gives them: growth of a frame that is made orthonormal now and then."""
    ahead = 10 * problem.inputs.shape[1]
    size = len(problem.inputs) + len(problem.targets)
    frame = torch.eye(2, size, dtype=torch.float64).expand(chains, -1, -1)
    total = torch.zeros(chains, 2, dtype=torch.float64)
    moments = islice(batches(problem, batch, chains, shuffled, "chain"), ahead + steps)
    for t, (_, yx) in enumerate(moments):
        frame = frame + eta * linear_force(frame, yx)
        if t % 5 == 4:
            q, r = torch.linalg.qr(frame.mT)
            frame = q.mT
            if t >= ahead:
                total += r.diagonal(dim1=-2, dim2=-1).abs().log()
    return total / steps


def minibatches(config: Config, batch: int, shuffled: bool) -> xr.Dataset:
    """Runs of the net on minibatches up to the first escape, beside the Lyapunov exponents.

    measured, half_width, predicted, plain (problem, law) : the power of epsilon of
    sigma_2(S)/sigma_1(S) at the escape and the steps per log(1/epsilon), means over the runs of
    each run's slope; half of the 95 % interval; from the exponents, and for the full batch.
    """
    parts, scales = [], config.noisy_scales
    logs = -np.log(np.array(scales))
    for i, problem in enumerate(problems_with_gaps(config.noisy_problems, least_gap=0.3)):
        s = torch.linalg.svdvals(problem.moments().yx)[:2]
        eta = config.noisy_step / float(s[0])
        chains = lyapunov(problem, eta, batch, shuffled, config.runs, config.chain).mean(0)
        theory = [[float(1 - e[1] / e[0]), float(1 / e[0])] for e in (chains, (eta * s).log1p())]
        rows = unit_starts(config.runs, scales, (NARROW, WIDTH), seed=f"one-law-{i}")
        draw = batches(problem, batch, config.runs, shuffled, f"runs-{i}")
        records, small = [], torch.ones(len(rows), dtype=torch.bool)
        # All scales of a run see the same batches, so that its slope scatters less.
        while bool(small.any()):
            rows = grade_rows(rows)
            records.append(grade_rows(rows)[:, :2].norm(dim=-1))
            small = records[-1][:, 0] < ESCAPED  # the others rest
            for both in islice(draw, EVERY):
                xx, yx = (m.repeat_interleave(len(scales), 0) for m in both)
                rows = rows + eta * small[:, None, None] * _force(rows, xx, yx)
        ratio, time = _escapes(torch.stack(records, 1), EVERY * torch.arange(len(records)), 1)
        both = torch.cat([-ratio, time], -1).unflatten(0, (-1, len(scales)))
        slopes = (both[:, -1] - both[:, 0]) / (logs[-1] - logs[0])
        means = np.array([mean_interval(slopes[:, law]) for law in range(2)])
        data = {"measured": means[:, 0], "half_width": means[:, 0] - means[:, 1]}
        data |= {"predicted": theory[0], "plain": theory[1]}
        parts.append(xr.Dataset({name: ("law", x) for name, x in data.items()}))
    return xr.concat(parts, "problem").assign_coords(law=["power", "steps"])


def trained(
    name: str,
    starts: Float[Tensor, "runs m1 coordinate"],
    rate: float,
    steps: int,
    draws: Iterable[tuple[Tensor, Tensor]],
) -> Float[Tensor, "runs record mode"]:
    """Singular values of S at every step of one of torch's own optimisers; `draws` gives the second
    moments (Sigma_xx, Sigma_yx) of each step's samples, one or one for each run."""
    halves = [torch.nn.Parameter(h.clone()) for s in starts for h in s.tensor_split((INPUTS,), -1)]
    optimizer, records = OPTIMISERS[name](halves, rate), []
    for xx, yx in islice(draws, steps + 1):
        with torch.no_grad():
            pairs = zip(halves[::2], halves[1::2], strict=True)
            s = torch.stack([torch.cat(pair, -1) for pair in pairs])
        records.append(mode_values(s))
        force = _force(s, xx, yx)
        for i, half in enumerate(halves):
            half.grad = -force[i // 2].tensor_split((INPUTS,), -1)[i % 2]
        optimizer.step()
    return torch.stack(records, 1)


def controls(config: Config) -> xr.Dataset:
    """torch's own optimisers: the power at the first escape, and whether noise raises the rank.

    own, own_predicted (optimiser, problem) : power of epsilon of sigma_2/sigma_1, epsilon = 1e-6
    to 1e-12, and that of log z (NaN for Adam and Muon). rank (optimiser) : how many sigma_k(S) are
    above 1e-4 sigma_1(S) at most on the way of a start of rank two with minibatches of 5.
    """
    problems, scales = problems_with_gaps(config.noisy_problems, least_gap=0.3), (1e-6, 1e-9, 1e-12)
    moments = stack_moments([p.moments() for p in problems], len(scales))
    rates, parts = torch.linalg.svdvals(moments.yx), []
    norm = rates[:, :1, None]
    xx, yx = moments.xx / norm, moments.yx / norm  # so that s_1 = 1 in each
    starts = unit_starts(len(problems), scales, (WIDTH, WIDTH), seed="one-law-controls")
    # Rank two, not in rows or coordinates of its own; large, lest rounding has time to grow.
    first, second = unit_starts(2, (0.1,), (WIDTH, WIDTH), seed="one-law-flat")
    flat = (first[:, :2] @ second[:2])[None]
    logs = xr.DataArray(np.log(np.array(scales)), dims="scale")
    for name in OPTIMISERS:
        linear = name not in ("Adam", "Muon")
        rate, late = (0.2, 200) if linear else (0.01, 100)
        modes = trained(name, starts, rate, late, repeat((xx, yx)))
        ratio = _escapes(modes, torch.arange(late + 1), 1)[0].reshape(-1, len(scales))
        power = fit_slope(logs, xr.DataArray(ratio, dims=("problem", "scale"))).slope
        noise = batches(problems[0], 5, 1, False, name)
        modes = trained(name, flat, 0.05 / float(rates[0, 0]), 150, noise)
        beta = 0.0 if name == "gradient descent" else 0.9
        kind = "Nesterov" if name == "Nesterov" else "heavy ball"
        z = root(rates[:: len(scales), :2] / rates[:: len(scales), :1], rate, beta, kind).log()
        law = 1 - z[:, 1] / z[:, 0] if linear else torch.full_like(z[:, 0], torch.nan)
        variables = {"own": power, "own_predicted": ("problem", law)}
        variables["rank"] = float((modes > 1e-4 * modes[..., :1]).sum(-1).max())
        parts.append(xr.Dataset(variables))
    return xr.concat(parts, "optimiser").assign_coords(optimiser=list(OPTIMISERS))


def bound(config: Config) -> xr.Dataset:
    """Lemma `lem-descent` with each minibatch's own M, through all drops of 5 runs of 400 steps of
    each problem: `violations` and `compared` (batch), for k = 1, 2, 3."""
    counts, runs = [], 5
    for batch in config.batches[:2]:
        broken = compared = 0
        for i, problem in enumerate(problems_with_gaps(config.noisy_problems, least_gap=0.3)):
            eta = config.noisy_step / 3 / float(torch.linalg.svdvals(problem.moments().yx)[0])
            s = unit_starts(runs, (1e-2,), (WIDTH, WIDTH), seed=f"one-law-bound-{i}")
            now = torch.linalg.svdvals(s)
            draws = islice(batches(problem, batch, runs, False, f"bound-{i}"), 400)
            for t, (xx, yx) in enumerate(draws):
                update = update_matrix(yx - s[..., INPUTS:].mT @ s[..., :INPUTS] @ xx, eta)
                factors = [growth_bound(update, leading_projector(s, k)) for k in (1, 2, 3)]
                s = s @ update
                check_alive(s, t, eta)
                new, most = torch.linalg.svdvals(s), torch.stack(factors, -1) * now[:, 1:4]
                broken += int((new[:, 1:4] > most * (1 + 1e-9)).sum())
                compared, now = compared + most.numel(), new
        counts.append((broken, compared))
    both = xr.DataArray(counts, dims=("batch", "count"))
    data = {"violations": both[:, 0], "compared": both[:, 1]}
    return xr.Dataset(data, {"batch": list(config.batches[:2])})


def compute(config: Config) -> xr.Dataset:
    """`three_drops` (kind, momentum); `minibatches` (draw), the size of the minibatch and how it is
    drawn; `controls` and `bound`. The problems of the last three are `noisy_problem`."""
    batch = [p.moments() for p in problems_with_gaps(config.problems)]
    s1 = staircase.predict_staircase(stack_moments(batch)).escape_rates[:, 0]
    kinds, momenta = ["heavy ball", "Nesterov"], dict(config.steps)
    runs = [
        [three_drops(batch, step / s1, config.scales, kind, beta) for beta, step in momenta.items()]
        for kind in kinds
    ]
    result = xr.combine_nested(runs, ["kind", "momentum"])
    draws = {f"{b}": (b, False) for b in config.batches}
    draws |= {f"{b}, reshuffled": (b, True) for b in config.shuffled}
    noisy = xr.concat([minibatches(config, *draw) for draw in draws.values()], "draw")
    others = [noisy.assign_coords(draw=list(draws)), controls(config)]
    others = [part.rename(problem="noisy_problem") for part in others]
    return xr.merge([result, *others, bound(config)]).assign_coords(
        kind=kinds, momentum=list(momenta)
    )


def run(config: Config = Config()) -> xr.Dataset:
    """`compute`, or the record of it."""
    return read_record("optimisers") if config.recorded else compute(config)


@claim("saddles/one-law-for-optimisers", Config, run)
def one_law(result: xr.Dataset) -> Evidence:
    """Largest relative errors: of the exponent of the first escape and of the times of three drops
    with momentum, of both laws with minibatches drawn with replacement, and reshuffled."""
    first = abs(result.power_measured / result.power - 1).isel(escape=0)
    later = abs(result.power_measured - result.power).isel(escape=slice(1, None))
    pace = abs(result.pace_measured / result.pace - 1)
    noise = abs(result.measured / result.predicted - 1)
    again = np.array([", " in str(name) for name in result.draw.values])
    plain = abs(result.plain / result.predicted - 1)
    least = abs(result.plain_power / result.power - 1).isel(escape=0)
    other = [
        float(abs(result.predicted.sel(draw=str(name).split(",")[0]) / row.measured - 1).max())
        for name, row in result.isel(draw=again).groupby("draw")
    ]
    ours = result.sel(optimiser=["gradient descent", "heavy ball", "Nesterov"])
    theirs = result.sel(optimiser=["Adam", "Muon"])
    noisy = noise.isel(draw=~again), noise.isel(draw=again)
    details = {
        "later": later.max(),
        "half_width": (result.half_width / result.predicted).max(),
        "plain_misses": [float(least.min()), float(plain.isel(draw=0).max())],
        "replacement_misses_reshuffled": other,
        "torch": abs(ours.own / ours.own_predicted - 1).max(),
        "rank_kept": ours["rank"].max(),
        "adam_muon_power": np.round(abs(theirs.own).max("noisy_problem"), 2),
        "law_power": ours.own_predicted.min(),
        "adam_raises": theirs["rank"].sel(optimiser="Adam") > 2,
        "violations": result.violations.sum(),
        "compared": result.compared.sum(),
    }
    worst = [float(part.max()) for part in (first, pace, *noisy)]
    allowed = [ALLOWED, ALLOWED, NOISY, NOISY]
    return Evidence(worst, [0.0] * 4, allowed, result.problem, details)


def main() -> None:
    """Compute the record anew."""
    attributes = {"command": "python -m paper.saddles.optimisers.one_law", **provenance()}
    write_record("optimisers", compute(Config()).assign_attrs(attributes))


if __name__ == "__main__":
    main()
