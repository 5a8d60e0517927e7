"""DP(r) is the NTK parametrization with its output divided by n_min^r, whatever the network."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
import xarray as xr
from torch import Tensor, nn

from learning_dynamics.runtime import generator
from paper.claims import Evidence, claim

__all__ = [
    "ACTIVATIONS",
    "OPTIMIZERS",
    "Config",
    "Drawn",
    "Network",
    "dp_is_ntk",
    "draw",
    "losses",
    "run",
]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "gelu": nn.functional.gelu,
    "sigmoid": torch.sigmoid,
    "sin": torch.sin,
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@dataclass(frozen=True)
class Config:
    """How many random networks and tasks, steps of each, and the rate of plain SGD under DP."""

    draws: int = 60
    steps: int = 30
    rate: float = 0.05

    def quick(self) -> "Config":
        return replace(self, draws=8)


@dataclass(frozen=True)
class Drawn:
    """A random network and how it is trained. output_bias : "inside" the output scale, "outside"
    of it, or "none"."""

    widths: tuple[int, ...]
    activation: str
    r: float
    biases: bool
    output_bias: str
    norm: bool
    residual: bool
    optimizer: str

    @property
    def scale(self) -> float:
        """D = n_min^-r."""
        return min(self.widths[1:-1]) ** -self.r


def draw(seed: int) -> Drawn:
    """Two to five hidden layers of 4 to 48 units; everything else evenly."""
    g = generator("dp-is-ntk", seed)

    def pick(count: int) -> int:
        return int(torch.randint(count, (), generator=g))

    hidden = tuple(4 + pick(45) for _ in range(2 + pick(4)))
    return Drawn(
        widths=(5, *hidden, 3),
        activation=tuple(ACTIVATIONS)[pick(5)],
        r=(0.1, 0.25, 0.37, 0.5)[pick(4)],
        biases=bool(pick(2)),
        output_bias=("none", "inside", "outside")[pick(3)],
        norm=bool(pick(2)),
        residual=bool(pick(2)),
        optimizer=tuple(OPTIMIZERS)[pick(4)],
    )


class Network(nn.Module):
    """f(x) = [scale *] W_L psi(...)/sqrt(n_{L-1}), layers g_l W_l h + b_l; the drawn extras.

    as_dp : multipliers and deviations of DP(r); else those of NTK with the output times D.
    """

    def __init__(self, drawn: Drawn, as_dp: bool, seed: int) -> None:
        super().__init__()
        g = generator("dp-is-ntk", "weights", seed)
        self.drawn, self.as_dp = drawn, as_dp
        self.std = drawn.scale if as_dp else 1.0
        self.weights = nn.ParameterList(
            self.std * torch.randn(n, m, generator=g, dtype=torch.float64)
            for m, n in pairwise(drawn.widths)
        )
        hidden = drawn.widths[1:-1] if drawn.biases else ()
        self.biases = nn.ParameterList(
            0.3 * torch.randn(n, 1, generator=g, dtype=torch.float64) for n in hidden
        )
        last = 0.3 * torch.randn(3, 1, generator=g, dtype=torch.float64)
        # A bias inside the output scale is a weight of the output layer: it has its deviation.
        inside = drawn.output_bias == "inside"
        self.last = nn.Parameter(last * self.std if inside else last)
        self.norms = nn.ModuleList(
            nn.LayerNorm(n, dtype=torch.float64) for n in (drawn.widths[1:-1] if drawn.norm else ())
        )

    def forward(self, x: Tensor) -> Tensor:
        psi, d = ACTIVATIONS[self.drawn.activation], self.drawn.scale
        h = x
        for i, w in enumerate(self.weights[:-1]):
            z = w @ h / (self.std * w.shape[1] ** 0.5)
            if self.biases:
                z = z + self.biases[i]
            if self.norms:
                z = self.norms[i](z.mT).mT
            kept = self.drawn.residual and z.shape == h.shape
            h = psi(z) + h if kept else psi(z)
        w = self.weights[-1]
        f = w @ h / w.shape[1] ** 0.5
        if self.drawn.output_bias == "inside":
            f = f + self.last
        f = f if self.as_dp else d * f
        return f + self.last if self.drawn.output_bias == "outside" else f

    def groups(self, rate: float) -> list[dict[str, object]]:
        """The rates that make both nets one: of DP's matrices `rate`, all others follow.

        SGD: NTK's matrices, and hidden biases and gains of both, move with rate/D^2; a bias outside
        the output scale with `rate` in both. Adam: 1/D in place of 1/D^2, epsilon as the gradient.
        """
        adam, d = self.drawn.optimizer.startswith("adam"), self.drawn.scale
        fast = rate / d if adam else rate / d**2
        outside = self.drawn.output_bias == "outside"
        matrices = [*self.weights, *([] if outside else [self.last])]
        vectors = [*self.biases, *self.norms.parameters()]
        rates = [(matrices, rate if self.as_dp else fast), (vectors, fast)]
        rates += [([self.last], rate)] if outside else []
        found: list[dict[str, object]] = []
        for parameters, own in rates:
            group: dict[str, object] = {"params": parameters, "lr": own}
            if adam:
                group["eps"] = 1e-8 * (d if parameters is matrices and not self.as_dp else 1.0)
            if self.drawn.optimizer == "adamw":
                group["weight_decay"] = 0.001 / own
            found.append(group)
        return [group for group in found if group["params"]]


def losses(drawn: Drawn, as_dp: bool, seed: int, config: Config, equal_rates: bool) -> Tensor:
    """1/2 mean |y - f|^2 at steps 0..steps. equal_rates: vectors at the rate of matrices."""
    g = generator("dp-is-ntk", "task", seed)
    x, y = (torch.randn(n, 16, generator=g, dtype=torch.float64) for n in (5, 3))
    net = Network(drawn, as_dp, seed)
    groups = net.groups(config.rate * (0.1 if drawn.optimizer.startswith("adam") else 1.0))
    if equal_rates and as_dp:
        for group in groups:
            group["lr"] = groups[0]["lr"]
    optimizer, seen = OPTIMIZERS[drawn.optimizer](groups), []
    for _ in range(config.steps + 1):
        optimizer.zero_grad()
        loss = 0.5 * (y - net(x)).square().sum(0).mean()
        loss.backward()
        seen.append(loss.detach())
        optimizer.step()
    return torch.stack(seen)


def run(config: Config = Config()) -> xr.Dataset:
    """gap (draw) : largest |L_DP - L_NTK| over the first loss; control: the same with hidden biases
    and gains left at the rate of DP's matrices (0 where there are none); moved: the loss's largest
    change over the first, so that nothing compares two nets that stand still."""
    found = []
    for seed in range(config.draws):
        drawn = draw(seed)
        dp, ntk = (losses(drawn, as_dp, seed, config, False) for as_dp in (True, False))
        wrong = losses(drawn, True, seed, config, True) if drawn.biases or drawn.norm else ntk
        found.append([float((one - ntk).abs().max() / ntk[0]) for one in (dp, wrong, ntk[0])])
    names = ("gap", "control", "moved")
    table = xr.DataArray(found, {"draw": range(config.draws), "name": list(names)})
    return table.to_dataset("name")


@claim("scales/dp-is-ntk", Config, run)
def dp_is_ntk(result: xr.Dataset) -> Evidence:
    """Largest gap between the two runs; control: median gap with vectors at the matrices' rate.

    tolerance : rounding is 4e-16 at each step, and 30 steps of training amplify it, most under
    Adam, by up to 10^4 in the draws.
    """
    controls = result.control.where(result.control > 0, drop=True)
    return Evidence(
        measured=float(result.gap.max()),
        predicted=0.0,
        tolerance=1e-9,
        seeds=result.draw,
        details={"control": float(controls.median()), "least_moved": float(result.moved.min())},
    )
