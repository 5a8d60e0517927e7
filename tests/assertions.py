"""Assertions in the paper's words. Each has a negative in `test_assertions.py`."""

import math

import torch

__all__ = [
    "assert_aligned",
    "assert_conserved",
    "assert_levels_fall",
    "assert_plateau_at",
    "assert_rank",
    "assert_scales_like",
]


def assert_rank(matrix, rank, *, gap=1e3):
    """`matrix` has exactly `rank` singular values, at least `gap` times above the next one."""
    values = torch.linalg.svdvals(torch.as_tensor(matrix))
    kept, rest = values[..., :rank], values[..., rank:]
    assert bool((kept > 0).all()), f"a singular value among the first {rank} vanishes: {values}"
    if rank and rest.shape[-1]:
        ratio = kept[..., -1] / rest[..., 0].clamp_min(torch.finfo(values.dtype).tiny)
        assert bool((ratio >= gap).all()), f"no gap of {gap:g} after value {rank}: {values}"


def assert_aligned(vectors, direction, *, angle):
    """Each row of `vectors` lies within `angle` (radians) of the line through `direction`."""
    cosine = torch.nn.functional.cosine_similarity(vectors, direction.expand_as(vectors), dim=-1)
    worst = float(torch.arccos(cosine.abs().clamp(max=1.0)).max())
    assert worst <= angle, f"largest angle {worst:.3g} exceeds {angle:.3g}"


def assert_conserved(series, *, tolerance):
    """A quantity along a run, (..., records), stays within `tolerance` of where it began."""
    drift = float((series - series[..., :1]).abs().max())
    assert drift <= tolerance, f"drift {drift:.3g} exceeds {tolerance:.3g}"


def assert_plateau_at(losses, level, *, rtol):
    """The *slowest* part of a falling loss curve lies at `level`: passing it proves nothing.

    losses : one record per equal time. The slowest step is sought within a factor 3 of the level,
    in the logarithm of the loss.
    """
    losses = torch.as_tensor(losses)
    speed = (losses[1:].log() - losses[:-1].log()).abs()
    near = (losses[:-1] > level / 3) & (losses[:-1] < level * 3)
    assert bool(near.any()), f"the curve never comes near {level:.3g}"
    slowest = torch.where(near, speed, torch.inf).argmin()
    rest = float(losses[slowest])
    assert abs(rest - level) <= rtol * level, f"rests at {rest:.6g}, not at {level:.6g}"


def assert_levels_fall(levels):
    """Levels are strictly decreasing."""
    levels = torch.as_tensor(levels)
    assert bool((levels.diff() < 0).all()), f"not decreasing: {levels}"


def assert_scales_like(sizes, values, exponent, *, tolerance):
    """values ~ sizes**exponent: the fitted slope of logarithms within `tolerance` + 3 errors.

    At least four sizes; the error is the standard error of the slope of the least-squares line.
    """
    assert len(sizes) >= 4, "a slope needs at least four sizes"
    x = [math.log(s) for s in sizes]
    y = [math.log(v) for v in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    residual = sum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    error = math.sqrt(residual / (len(x) - 2) / spread)
    allowed = tolerance + 3 * error
    assert abs(slope - exponent) <= allowed, f"slope {slope:.4f} ± {error:.4f}, not {exponent:.4f}"
