"""What hidden layers hold: effective rank, a linear read-out, alignment with their neighbours."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from learning_dynamics.kernels.mlp_torch import hidden
from learning_dynamics.losses import classified
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import check_positive, check_tensors

__all__ = ["effective_rank", "linear_alignment", "linear_probe", "summarise"]


def _at_unit_size(features: Tensor) -> tuple[Tensor, Tensor]:
    """Features of each run divided by their largest, in double precision; and what by, or 1."""
    h = features.double()
    size = h.abs().amax((-2, -1), keepdim=True)
    size = torch.where(size > 0, size, 1.0)
    return h / size, size


def effective_rank(features: Float[Tensor, "runs width samples"]) -> Float[Tensor, " runs"]:
    """exp of the entropy of the normalised eigenvalues of the features' covariance.

    Between 1 (a line) and min(width, samples); features are centred over samples. Features that
    no sample changes (all units off) give 0. Independent of scale and of rotations.

    >>> import torch
    >>> round(float(effective_rank(torch.tensor([[[1.0, -1.0], [2.0, -2.0]]]))), 6)  # a line
    1.0
    """
    check_tensors(features=(features, "runs width samples"))
    h = _at_unit_size(features)[0]
    centred = h - h.mean(-1, keepdim=True)
    rounding = 8 * torch.finfo(h.dtype).eps * h.abs().amax(-1, keepdim=True)
    centred = torch.where(centred.abs() > rounding, centred, 0.0)
    values = torch.linalg.svdvals(centred).square()
    total = values.sum(-1, keepdim=True)
    share = values / total.clamp_min(torch.finfo(values.dtype).tiny)
    entropy = -torch.special.xlogy(share, share).sum(-1)
    return torch.where(total[..., 0] > 0, entropy.exp(), 0.0)


def linear_probe(
    features: Float[Tensor, "runs width samples"],
    targets: Float[Tensor, "classes samples"],
    test_features: Float[Tensor, "runs width tests"],
    test_targets: Float[Tensor, "classes tests"],
    *,
    ridge: float = 1e-3,
) -> Float[Tensor, " runs"]:
    """Test accuracy of a linear read-out fitted by ridge regression on the training features.

    ridge : relative to the mean square of the features; a constant feature is added.

    >>> import torch
    >>> x = torch.tensor([[[1.0, 2.0, -1.0, -2.0]]])
    >>> y = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    >>> linear_probe(x, y, x, y).tolist()
    [1.0]
    """
    check_tensors(
        features=(features, "runs width samples"),
        targets=(targets, "classes samples"),
        test_features=(test_features, "runs width tests"),
        test_targets=(test_targets, "classes tests"),
    )
    check_positive("ridge", ridge)
    if ridge < 1e-12:
        raise ValueError(f"ridge = {ridge!r}: must be at least 1e-12, above rounding")
    h, size = _at_unit_size(features)
    scale = h.square().mean((1, 2), keepdim=True).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)

    def extended(x: Tensor) -> Tensor:
        x = x / scale
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)

    a, b = extended(h), extended(test_features.double() / size)
    gram = a @ a.mT / a.shape[-1]
    gram = gram + ridge * torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
    moment = a @ targets.double().mT / a.shape[-1]
    read_out = torch.linalg.solve(gram, moment)
    right = classified(read_out.mT @ b, test_targets)
    if right is None:
        raise ValueError(
            "test_targets: must name a class for each sample: one largest entry a column, or one "
            "row of -1 and 1"
        )
    return right.double().mean(-1)


def linear_alignment(
    a: Float[Tensor, "runs _ samples"], b: Float[Tensor, "runs _ samples"]
) -> Float[Tensor, " runs"]:
    """Alignment of two layers' centred Gram matrices, <K_a, K_b> / (|K_a| |K_b|), in [0, 1].

    1 if the layers arrange the samples alike, up to scale and rotation.
    """

    check_tensors(a=(a, "runs _ samples"), b=(b, "runs _ samples"))

    def gram(x: Tensor) -> Tensor:
        x = _at_unit_size(x)[0]
        x = x - x.mean(-1, keepdim=True)
        return x.mT @ x

    k, q = gram(a), gram(b)
    size = (k.square().sum((1, 2)) * q.square().sum((1, 2))).sqrt()
    return (k * q).sum((1, 2)) / size.clamp_min(torch.finfo(k.dtype).tiny)


def summarise(
    weights: Sequence[Tensor],
    multipliers: Sequence[float],
    train: Problem,
    test: Problem,
    *,
    samples: int = 200,
) -> dict[str, Tensor]:
    """Effective rank and probe accuracy of layers 2 and 4 (the bottlenecks), and alignments.

    rank (runs, 2), probe (runs, 2), alignment (runs, 3): of layers 2 and 4, of layer 4 with the
    inputs, of layer 4 with the targets. The rank and alignments use `samples` evenly spaced
    training samples; the probe is fitted on the training set and scored on the test set.
    """
    h = hidden(weights, multipliers, train.inputs[None])
    t = hidden(weights, multipliers, test.inputs[None])
    runs = len(weights[0])
    pick = torch.linspace(0, train.inputs.shape[1] - 1, samples, device=train.inputs.device).long()
    two, four = h[2][..., pick], h[4][..., pick]
    x = train.inputs[None, :, pick].expand(runs, -1, -1)
    y = train.targets[None, :, pick].expand(runs, -1, -1)
    return {
        "rank": torch.stack([effective_rank(two), effective_rank(four)], 1),
        "probe": torch.stack(
            [linear_probe(h[k], train.targets, t[k], test.targets) for k in (2, 4)], 1
        ),
        "alignment": torch.stack(
            [linear_alignment(two, four), linear_alignment(four, x), linear_alignment(four, y)], 1
        ),
    }
