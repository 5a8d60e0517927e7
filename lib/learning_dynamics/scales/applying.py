"""A scheme for the network one has: initial values and learning rates by width and optimizer.

`parametrize` builds a network at two sizes, sees which dimensions of which parameters grow, and
asks the scheme's rule for each parameter on its own; nothing is traced. Every constant is relative
to the network at `base_size`, which stays as it was written.

One rule serves all optimizers. A step removes the loss eta_l |G_l|_* from layer l, with the norm
dual to the optimizer's: |G|_F^2 for gradient descent, the sum of |G_ij| for Adam's signs, the
nuclear norm for Muon. A scheme's SGD rate eta_l means that it counts on gradients of the order
|G_l|_F = eta_l^(-1/2); the same budget then asks (eta_l / (fan_in fan_out))^(1/2) of Adam and
eta_l^(1/2) of Muon, for gradients of a batch, whose rank does not grow.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from learning_dynamics.runtime import check_choice, check_instance, check_integer, check_positive
from learning_dynamics.scales.parametrizations import SCHEMES, Scheme
from learning_dynamics.scales.parametrizations import scheme as find_scheme

__all__ = ["OPTIMIZERS", "Parametrized", "Weight", "parametrize", "weights_of"]

OPTIMIZERS = ("sgd", "adam", "adamw", "muon")
#: What torch.optim.Muon (2.13) multiplies the rate of an A x B matrix with, by `adjust_lr_fn`.
MUON_FACTORS: dict[str, Callable[[int, int], float]] = {
    "original": lambda a, b: math.sqrt(max(1, a / b)),
    "match_rms_adamw": lambda a, b: 0.2 * math.sqrt(max(a, b)),
}
#: Draws of the base network whose mean square an initial value is measured by.
BASE_DRAWS = 8
Builder = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Weight:
    """One parameter of a network at one size, and where it stands.

    names           : every name it has (more than one: tied). value : the parameter.
    role            : "input" (its inputs do not grow: first layers, biases, gains, embeddings),
                      "hidden" or "readout".
    fan_in, fan_out : a bias, a gain and an embedding have fan_in 1.
    narrow, wide    : the smallest and the largest growing width of the whole network.
    grows           : whether its outputs grow.
    matrix          : whether Muon takes it: the weight of a linear layer or of attention.
    readouts        : modules that read out with it while its role is "input" (tied weights).
    """

    names: tuple[str, ...]
    value: nn.Parameter
    role: str
    fan_in: int
    fan_out: int
    narrow: int
    wide: int
    grows: bool
    matrix: bool
    readouts: tuple[str, ...] = ()

    @property
    def tied(self) -> bool:
        """Whether it has several names."""
        return len(self.names) > 1

    @property
    def fixed(self) -> bool:
        """Whether no side grows, as of scalars and norms of inputs: every factor is one."""
        return self.role == "input" and not self.grows

    def stands(self) -> tuple[str, bool, tuple[str, ...]]:
        """What must be the same at every size."""
        return self.role, self.grows, self.readouts

    def as_readout(self) -> "Weight":
        """The readout that a tied embedding is in its second place."""
        return replace(self, role="readout", fan_in=self.fan_out, fan_out=1, readouts=())

    def scales(self, scheme: Scheme, optimizer: str) -> dict[str, float]:
        """The scheme's numbers for multiplier 1, up to constants that no width changes.

        "std" initial deviation, "rate" learning rate, "sgd" that of gradient descent, "gradient"
        the size of a gradient's entries that the scheme counts on.
        """
        if self.fixed:
            return dict.fromkeys(("std", "rate", "sgd", "gradient"), 1.0)
        a, b, low, high = map(math.log, (self.fan_in, self.fan_out, self.narrow, self.wide))
        chain, layer = {
            "input": ([a, b, high, low, 0.0], 0),
            "hidden": ([0.0, high, low, a, b, 0.0], 3),
            "readout": ([0.0, high, low, a, b], 3),
        }[self.role]
        g, sigma, eta = (float(part[layer]) for part in scheme.rule(chain))
        sgd = rate = eta + 2 * g
        if scheme is not SCHEMES["standard"]:  # which is one rate for every layer
            if optimizer == "muon" and self.matrix:
                rate = sgd / 2
            elif optimizer != "sgd":
                rate = (sgd - a - b) / 2
        logs = {"std": g + sigma, "rate": rate, "sgd": sgd, "gradient": -(sgd + a + b) / 2}
        return {name: math.exp(value) for name, value in logs.items()}


class Multiplier:
    """Forward pre-hook that feeds g h to a layer in place of h; a bias stays outside."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0] * self.value, *inputs[1:])


def _fans(owner: nn.Module, name: str, value: Tensor) -> tuple[int, int, int, int] | None:
    """(index of the input dimension, of the output dimension, fan_in, fan_out); None: no matrix."""
    shape, kernel = value.shape, math.prod(value.shape[2:])
    attention = isinstance(owner, nn.MultiheadAttention) and "proj_weight" in name
    if (isinstance(owner, nn.Linear) and name == "weight") or attention:
        return 1, 0, shape[1], shape[0]
    if isinstance(owner, _ConvTransposeNd) and name == "weight":
        return 0, 1, shape[0] // owner.groups * kernel, shape[1] * owner.groups
    if isinstance(owner, _ConvNd) and name == "weight":
        return 1, 0, shape[1] * kernel, shape[0]
    return None


def _owned(model: nn.Module) -> dict[str, tuple[nn.Module, str, nn.Parameter]]:
    """Full name -> (module, name in it, parameter), tied ones under each of their names."""
    found = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for name, value in module._parameters.items():
            if value is None:
                continue
            where = f"{path}.{name}" if path else name
            if nn.parameter.is_lazy(value):
                raise ValueError(f"{where} is lazy: name its widths, or pass a batch through first")
            found[where] = (module, name, value)
    return found


def _vector(owner: nn.Module, name: str, value: Tensor, grown: list[bool], listed: bool) -> int:
    """The width of a bias, a gain or an embedding; refuses what could be read otherwise."""
    table = listed or isinstance(owner, nn.Embedding | nn.EmbeddingBag)
    several = sum(n > 1 for n in value.shape) > 1
    if sum(grown) > 1 or (several and any(grown) and not table):
        raise ValueError(
            f"{name}, {tuple(value.shape)}, is a parameter of a {type(owner).__name__}, and which "
            "of its sides is the input is not known: use nn.Linear, or, where its rows are looked "
            f"up or added to a signal, pass embeddings=[{name!r}]"
        )
    return next((n for n, g in zip(value.shape, grown, strict=True) if g), 1)


def weights_of(
    model: nn.Module,
    other: nn.Module,
    *,
    readouts: Collection[str] | None = None,
    embeddings: Collection[str] = (),
) -> list[Weight]:
    """Every parameter of `model` with its role; `other` is the same network at another size.

    readouts, embeddings : as in `parametrize`, with the errors that it raises for networks.
    """
    check_instance("factory", model, nn.Module)
    readouts = (readouts,) if isinstance(readouts, str) else readouts
    embeddings = (embeddings,) if isinstance(embeddings, str) else embeddings
    mine, theirs = _owned(model), _owned(other)
    if not set(embeddings) <= set(mine):
        raise ValueError(f"embeddings = {sorted(embeddings)}: must be among {sorted(mine)}")
    if list(mine) != list(theirs):
        odd = sorted(set(mine) ^ set(theirs))[:3]
        raise ValueError(f"factory: only widths may grow, but {odd} are in one of two sizes only")
    grown = {
        name: [a != b for a, b in zip(v.shape, theirs[name][2].shape, strict=True)]
        for name, (_, _, v) in mine.items()
    }
    widths = [
        n for name, m in mine.items() for n, g in zip(m[2].shape, grown[name], strict=True) if g
    ]
    if not widths:
        raise ValueError("factory: no dimension grows between two sizes")
    fans = {name: _fans(*entry) for name, entry in mine.items()}
    able = {
        name.rpartition(".")[0]
        for name, f in fans.items()
        if f is not None and grown[name][f[0]] and not grown[name][f[1]]
    }
    if readouts is None and len(able) != 1:
        advice = (
            "name the readouts among them, or readouts=() if there is none; a bottleneck of fixed "
            "width is not a readout: name only layers whose output is the network's output"
            if able
            else "if forward() reads out with an embedding's weight, make it a layer: self.head = "
            "nn.Linear(n, V, bias=False); self.head.weight = self.tok.weight"
        )
        raise ValueError(
            "readouts: the inputs of a readout grow and its outputs do not; these layers are such: "
            f"{sorted(able)}; {advice}"
        )
    chosen = able if readouts is None else set(readouts)
    if not chosen <= able:
        raise ValueError(f"readouts = {sorted(chosen)}: must be among {sorted(able)}")

    stands: dict[int, list[tuple[str, str, int, int, bool, bool]]] = {}
    for name, (owner, _, value) in mine.items():
        f, inside, into = fans[name], grown[name], name.rpartition(".")[0] in chosen
        if f is None:
            width = _vector(owner, name, value, inside, name in embeddings)
            stand = ("readout" if into else "input", 1, width, any(inside), False)
        else:
            role = "readout" if into else "hidden" if inside[f[0]] else "input"
            stand = (role, f[2], f[3], inside[f[1]], value.ndim == 2)
        stands.setdefault(id(value), []).append((name, *stand))
    found = []
    for uses in stands.values():
        role, fan_in, fan_out, grows, matrix = min(uses, key=lambda use: use[1] != "input")[1:]
        ends = tuple(u[0].rpartition(".")[0] for u in uses if u[1] == "readout" != role)
        names = tuple(u[0] for u in uses)
        if not {u[1] for u in uses} <= {role, "readout"}:
            raise ValueError(f"{' and '.join(names)} share one parameter in unlike places: untie")
        value, low, high = mine[names[0]][2], min(widths), max(widths)
        weight = Weight(
            names, value, role, fan_in, fan_out, low, high, grows, matrix and not ends, ends
        )
        found.append(weight)
    return found


@dataclass(frozen=True)
class Parametrized:
    """A network at one size with the rates that a scheme gives its parameters.

    model       : the network, with its initial values. scheme, optimizer : as asked for.
    weights     : its parameters with their roles.
    factors     : parallel to `weights`: numbers of the scheme over those at the base size, see
                  `Weight.scales`; for Muon "rate" includes what torch's factor must be divided by.
    multipliers : module -> factor g on its input; only tied readouts have one.
    """

    model: nn.Module
    scheme: Scheme
    optimizer: str
    weights: tuple[Weight, ...]
    factors: tuple[Mapping[str, float], ...]
    multipliers: Mapping[str, float]

    def param_groups(
        self,
        lr: float,
        weight_decay: float | None = None,
        *,
        eps: float | None = None,
        rest: bool = False,
        biases: float = 1.0,
    ) -> list[dict[str, Any]]:
        """Groups for the optimizer; at the base size every parameter has `lr`.

        weight_decay : scaled such that all layers decay alike, at every size: a decoupled decay
                       (AdamW, Muon) keeps rate times decay; a penalty inside the gradient (SGD,
                       Adam) keeps that product of gradient descent. Every group carries its own,
                       so that a decay given to the optimizer has no effect. None: none, and an
                       error for AdamW and Muon, whose users mostly want one: say 0.0 for none.
        eps          : Adam's; scaled like the gradients that the scheme counts on. None: left out.
        rest         : with "muon" the parameters that torch.optim.Muon does not take, for AdamW.
        biases       : what the rates of parameters whose name begins or ends with "bias" are
                       multiplied by, at every size.
        Raises ValueError for a rate or decay that is negative, and `rest` without Muon.
        """
        check_positive("lr", lr)
        if weight_decay is None:
            if self.optimizer in ("adamw", "muon"):
                raise ValueError(
                    "weight_decay = None: give the decay to param_groups(lr, weight_decay), 0.0 "
                    f"for none: what is given to the optimizer, {self.optimizer}, is not scaled"
                )
            weight_decay = 0.0
        check_positive("weight_decay", weight_decay, zero=True)
        if eps is not None:
            check_positive("eps", eps, zero=True)
            if self.optimizer == "sgd":
                raise ValueError(f"eps = {eps!r}: gradient descent has none")
        check_positive("biases", biases)
        if rest and self.optimizer != "muon":
            raise ValueError(f"rest = True: all parameters belong to {self.optimizer}")
        groups: dict[tuple[float, ...], dict[str, Any]] = {}
        for weight, factor in zip(self.weights, self.factors, strict=True):
            if self.optimizer == "muon" and weight.matrix == rest:
                continue
            words = weight.names[0].rpartition(".")[2].split("_")  # bias, in_proj_bias, bias_k
            slowed = biases if "bias" in (words[0], words[-1]) else 1.0
            penalty = self.optimizer in ("sgd", "adam")
            decay = weight_decay / (factor["sgd"] if penalty else factor["rate"] * slowed)
            rate = lr * factor["rate"] * slowed
            group = {"params": [], "lr": rate, "weight_decay": decay}
            if eps is not None:
                group["eps"] = eps * factor["gradient"]
            key = tuple(v for v in group.values() if isinstance(v, float))
            groups.setdefault(key, group)["params"].append(weight.value)
        return list(groups.values())


def parametrize(
    factory: Builder,
    size: int,
    base_size: int,
    scheme: str | Scheme,
    optimizer: str = "sgd",
    *,
    readouts: Collection[str] | None = None,
    embeddings: Collection[str] = (),
    muon_factor: str = "original",
) -> Parametrized:
    """The network `factory(size)` under a scheme that leaves `factory(base_size)` as it is.

    factory    : size -> a fresh network: load checkpoints after this call, which sets initial
                 values anew. Dimensions that differ between two sizes are widths, in any orders;
                 linear layers, convolutions, embeddings, normalisation, attention, biases, tied
                 weights; what forward() does is not looked at.
    scheme     : "standard" (one rate), "ntk", "mup-package" (what `mup` does), "spectral",
                 "dp(r)", any of `scheme()`; n_min of DP is the narrowest width that grows.
    optimizer  : "sgd", "adam", "adamw" or "muon" (matrices by torch.optim.Muon, the rest by AdamW).
    readouts   : names of the layers that read out; None: the only layer whose inputs grow and
                 whose outputs do not. What is named must end the network: nothing is traced, and a
                 bottleneck of fixed width named here is taken for an end. embeddings : names of
                 parameters whose rows are looked up or added to a signal and that are no
                 nn.Embedding, such as positions.
    muon_factor: the `adjust_lr_fn` given to torch.optim.Muon.
    Initial values keep their draw and get a new mean square: that of the base network (from 8
    draws) times the scheme's ratio. Tensors of equal entries (zeros, gains of one) stay.
    `state_dict()` fits the plain network with the same outputs, unless `multipliers` has entries.
    Raises ValueError for parameters whose sides it cannot tell, layers with a forward() of their
    own, several possible readouts, widths that begin to grow after the base size, attention whose
    head width grows (torch divides by its root; only "standard" and "ntk" allow that), hidden
    widths that do not grow under DP(r > 0).

    >>> from torch import nn
    >>> from learning_dynamics import scales
    >>> def net(n):
    ...     return nn.Sequential(nn.Linear(8, n), nn.ReLU(), nn.Linear(n, n), nn.Linear(n, 2))
    >>> scaled = scales.parametrize(net, 256, 64, "mup-package", "adam")
    >>> sorted({round(group["lr"], 9) for group in scaled.param_groups(0.01)})
    [0.0025, 0.01]
    """
    check_integer("size", size, least=1)
    check_integer("base_size", base_size, least=1)
    check_choice("optimizer", optimizer, OPTIMIZERS)
    check_choice("muon_factor", muon_factor, MUON_FACTORS)
    if muon_factor != "original" and optimizer != "muon":
        raise ValueError(f"muon_factor = {muon_factor!r}: has no effect on {optimizer}")
    rule = find_scheme(scheme)
    with torch.random.fork_rng():
        bases = []
        for seed in range(BASE_DRAWS if size != base_size else 1):
            torch.manual_seed(seed)
            bases.append(factory(base_size))
        probe = factory(2 * base_size)
    model = factory(size)
    read = partial(weights_of, readouts=readouts, embeddings=embeddings)
    base = [read(b, probe) for b in bases]
    other = bases[0] if size != base_size else probe
    weights = read(model, other)
    if len(weights) != len(base[0]):
        raise ValueError("factory: parameters are tied at one size and not at another")
    odd = [w.names[0] for w, b in zip(weights, base[0], strict=True) if w.stands() != b.stands()]
    if odd:
        raise ValueError(
            f"factory: {odd}: not the same widths grow from {base_size} to {2 * base_size} as from "
            f"{base_size} to {size}: let each grow from the base size on, or keep it fixed"
        )
    _refuse(model, other, rule, weights)
    factors, multipliers = [], {}
    for k, weight in enumerate(weights):
        now, then = (w.scales(rule, optimizer) for w in (weight, base[0][k]))
        factor = {name: now[name] / then[name] for name in now}
        if optimizer == "muon" and weight.matrix:
            known = MUON_FACTORS[muon_factor]
            factor["rate"] *= known(*base[0][k].value.shape) / known(*weight.value.shape)
        factors.append(factor)
        with torch.no_grad():
            value = weight.value
            if size != base_size and not bool((value == value.flatten()[0]).all()):
                wanted = torch.stack([b[k].value.double().square().mean() for b in base]).mean()
                value.mul_(factor["std"] * (wanted / value.double().square().mean()).sqrt())
        for name in weight.readouts if size != base_size else ():
            now, then = (w.as_readout().scales(rule, optimizer) for w in (weight, base[0][k]))
            multipliers[name] = now["std"] / then["std"] / factor["std"]
            model.get_submodule(name).register_forward_pre_hook(Multiplier(multipliers[name]))
    return Parametrized(model, rule, optimizer, tuple(weights), tuple(factors), multipliers)


def _refuse(model: nn.Module, other: nn.Module, rule: Scheme, weights: Sequence[Weight]) -> None:
    twins = dict(other.named_modules())
    for name, module in model.named_modules():
        plain = next((k for k in (nn.Linear, _ConvNd, nn.Embedding) if isinstance(module, k)), None)
        if plain is not None and not type(module).forward.__module__.startswith("torch."):
            raise ValueError(
                f"{name} is a {type(module).__name__} with a forward() of its own, which may scale "
                "as well: use the plain layer of torch.nn"
            )
        if not isinstance(module, nn.MultiheadAttention) or rule.name in ("standard", "ntk"):
            continue
        if module.head_dim != twins[name].head_dim:
            raise ValueError(
                f"{name}: its heads grow, and nn.MultiheadAttention divides by the root of their "
                f"width where {rule.name} needs the width: let the number of heads grow"
            )
    fixed = [w.names[0] for w in weights if not w.grows and w.role == "hidden"]
    if fixed and rule.name.startswith("dp("):
        raise ValueError(
            f"{fixed}: this hidden width does not grow, so that n_min would be constant and "
            f"{rule.name} would be NTK: let it grow, or take another scheme; a bottleneck of fixed "
            "width is not a readout: name only layers whose output is the network's output"
        )
