"""Energies in a linear bottleneck against the closed form."""

import torch

from learning_dynamics import generator, linear_teacher, saddles
from learning_dynamics.saddles.linear_nets.bottleneck import chain, draw_modules, train_modules
from paper.scales.compression import energies

M, S = 64, 0.7


def frames(into: float, out: float) -> saddles.Weights:
    """U'U and VV' are multiples of the identity and VU = 0: the start of the limit, at finite m."""
    draw = torch.randn(M, 10, generator=generator("frames"), dtype=torch.float64)
    q = torch.linalg.qr(draw).Q
    return saddles.Weights(into**0.5 * q[None, :, :6], out**0.5 * q[None, :, 6:].mT)


def distance(start: saddles.Weights, loss: str, steps: int) -> float:
    """|U'U/s - law|_2 after training."""
    problem = linear_teacher(generator=generator(0))
    run = saddles.gradient_descent(start, problem, step_size=1e-3, steps=steps, loss=loss)
    u = run.final.w1
    law = energies(run.final.w2 @ u, torch.tensor([S], dtype=torch.float64))
    return float(torch.linalg.matrix_norm(u.mT @ u / S - law, 2))


def test_the_bottleneck_is_a_function_of_the_map_alone():
    """At any time and with any loss, up to the size of a step."""
    for loss, steps in (("squared", 100), ("squared", 3000), ("huber", 1000)):
        assert distance(frames(S, S), loss, steps) < 5e-3


def test_unequal_starts_break_the_law():
    assert distance(frames(S, 3 * S), "squared", 1000) > 0.1


def test_a_wide_layer_on_either_side_makes_two_matrices():
    """The exact recursion of a net whose wide layers have 2^22 units goes the way of two matrices."""
    m, wide = 16, 2**22
    problem = linear_teacher(generator=generator(0))
    scale = m**-0.5 / (wide * (6 * m) ** 0.5)
    modules = draw_modules(6, m, 4, 2, wide=[wide], init_std=[1.0], seeds=[0])
    into, out = (scale**0.5 * module.v for module in modules)
    end = train_modules(
        modules, problem.moments(), multiplier=torch.tensor([scale], dtype=torch.float64),
        step_size=0.01 / (2 * wide * scale), steps=400, record_at=(400,),
    ).final  # fmt: skip
    run = saddles.gradient_descent(saddles.Weights(into, out), problem, step_size=0.01, steps=400)
    u, seen = run.final.w1, scale**0.5 * end[0].v
    assert (u - into).norm() > 0.3 * into.norm()
    assert (seen - u).norm() < 1e-3 * u.norm()
    assert (scale * chain(end) - run.final.w2 @ u).norm() < 1e-3 * (run.final.w2 @ u).norm()
