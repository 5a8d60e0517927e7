"""No point is called a minimum without the certificate that proves it."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn import datasets

from learning_dynamics.data.published import diagonal_pair, three_point
from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.skipping.algorithm import skip_plateaus
from learning_dynamics.saddles.skipping.certificate import bound
from learning_dynamics.saddles.skipping.objective import Objective


def rank_constrained(problem, rank):
    """The least loss over maps of this rank and L(0), by NumPy alone: (shares of |Y|^2)."""
    x, y = problem.inputs.double().numpy(), problem.targets.double().numpy()
    x = x / np.abs(x).max(1, keepdims=True).clip(5e-324)
    x, y = x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-300), y / np.abs(y).max()
    fit = (np.linalg.lstsq(x.T, y.T, rcond=None)[0].T) @ x
    energies = np.linalg.svd(fit, compute_uv=False) ** 2
    return (np.sum((y - fit) ** 2) + energies[rank:].sum()) / np.sum(y**2), energies / np.sum(y**2)


def judged(problem):
    """The path, after testing what its status says: within 1e-6 of the bound, below any saddle."""
    found = skip_plateaus(problem, width=12)
    least, energies = rank_constrained(problem, 12)
    assert all(math.isfinite(loss) for loss in found.losses)
    excess = found.loss / found.losses[0] - least
    assert found.certificate.gap is None or found.certificate.gap >= excess - 1e-9
    if found.status == "global":
        assert excess <= 1e-6 and excess < energies[energies > 1e-20].min(initial=1.0)
    return found


def random_problem(seed):
    """Sizes, spectra, noise and number of samples (also fewer than inputs) at random."""
    draw = generator("certificate", seed)
    gaussian = partial(torch.randn, generator=draw, dtype=torch.float64)
    ranges = ((2, 8), (1, 5), (2, 30))
    m0, m2, n = (int(torch.randint(*r, (1,), generator=draw)) for r in ranges)
    x, rank = gaussian(m0, m0) @ gaussian(m0, n), 1 + seed % m2
    y = gaussian(m2, rank) @ gaussian(rank, m0) @ x
    return Problem(x, y + (0.0, 0.1, 1.0)[seed % 3] * gaussian(m2, n))


def test_linear_nets_end_at_the_least_squares_loss():
    assert {judged(random_problem(seed)).status for seed in range(24)} == {"global"}


BASE = linear_teacher(generator=generator("certificate", 0), noise=0.1)


def unusual():
    """Data of other sizes, one feature in other units, equal features, raw tables."""
    x, y = BASE.inputs, BASE.targets
    for scale in (1e-7, 1e-13, 1e-100, 1e-170, 1e150):
        yield f"all times {scale}", scale * x, y
    for scale in (1e-20, 1e-8, 1e4, 1e8):
        yield f"one times {scale}", torch.cat([scale * x[:1], x[1:]]), y
    for small in (0.0, 1e-9):
        yield f"apart by {small}", torch.cat([x[:1], x[:1] + small * x[1:2], x[2:]]), y
    for name in ("breast_cancer", "wine", "linnerud", "diabetes", "iris"):
        table = getattr(datasets, f"load_{name}")()
        y = torch.tensor(np.atleast_2d(table.target.T).astype(float))
        yield name, torch.tensor(table.data.T.copy()), y


@pytest.mark.parametrize("name, x, y", [pytest.param(*c, id=c[0]) for c in unusual()])
def test_the_units_of_the_data_do_not_matter(name, x, y):
    found = judged(Problem(x, y))
    assert found.status == "global"
    if name.startswith("all"):
        assert found.losses == pytest.approx(judged(BASE).losses)


@pytest.mark.parametrize("mean", [1e3, 1e5])
def test_a_large_mean_of_the_targets_hides_no_saddle(mean):
    """Its loss falls by more than 1e-6 at once, but nothing else has been learned."""
    x = torch.cat([BASE.inputs, torch.ones(1, 40, dtype=torch.float64)])
    found = judged(Problem(x, BASE.targets + mean))
    assert found.status != "global" or len(found.saddles) == 5


def relu_teacher(outputs, seed, samples=20, width=24):
    """Four inputs and a bias, three ReLU units of strength 3, 1.5, .7; starts of norm one."""
    draw = generator("certificate/relu", seed)
    gaussian = partial(torch.randn, generator=draw, dtype=torch.float64)

    def unit(*shape):
        return torch.nn.functional.normalize(gaussian(*shape))

    x = torch.cat([gaussian(4, samples), torch.ones(1, samples, dtype=torch.float64)])
    strength = torch.tensor([3.0, 1.5, 0.7], dtype=torch.float64)
    y = (unit(3, outputs).mT * strength) @ torch.relu(unit(3, 5) @ x)
    return Problem(x, y), unit(width, 5 + outputs)


@pytest.mark.parametrize(("outputs", "seed"), [(2, 1), (2, 3), (2, 7), (3, 3), (3, 5)])
def test_where_copies_of_a_relu_unit_part_they_are_followed(outputs, seed):
    """Gradient descent from 1e-12 ends far below the point where no dormant unit grows."""
    problem, starts = relu_teacher(outputs, seed)
    found = skip_plateaus(problem, width=24, activation="relu", starts=starts)
    assert any(s.escape.splits is not None for s in found.saddles[:-1])
    assert found.status == "global" and found.loss < 1e-6 * found.losses[0]


def test_the_zero_of_a_relu_loss_is_measured_by_what_no_line_fits():
    x = torch.tensor([[-2.0, -1.0, 0.0, 1.0, 2.0], [1.0] * 5], dtype=torch.float64)
    problem = Problem(x, x[:1].abs() + 1e5)
    line = problem.targets.mean() * torch.ones_like(problem.targets)  # its kink is missed
    o = Objective(problem, activation="relu")
    assert bound(o, line).gap < 1e-6 and not bound(o, line).holds
    assert bound(o, problem.targets).holds


def test_one_output_is_not_certified_either():
    """The three points: the least-squares line is where a ReLU net ends; linear nets prove it."""
    problem = three_point()
    line = problem.targets @ torch.linalg.pinv(problem.inputs) @ problem.inputs
    for activation in ("relu", "tanh", "linear"):
        holds = bound(Objective(problem, activation=activation), line).holds
        assert holds == (activation == "linear")


def test_a_diagonal_net_is_compared_with_leaving_one_coordinate_out():
    problem = diagonal_pair()
    o = Objective(problem)
    x, y = problem.inputs, problem.targets
    for only in (0, 1):
        row = x[[only]]
        fit = (y @ row.mT / row.square().sum()) * row
        certificate = bound(o, fit, diagonal=True)
        assert not certificate.holds
        assert certificate.gap == pytest.approx(float((y - fit).square().sum() / y.square().sum()))
    assert bound(o, y, diagonal=True).holds
    weak = Problem(x, torch.tensor([[1.0, 1e-4]], dtype=torch.float64) @ x)
    first = x[:1] * float(weak.targets @ x[0] / x[0].square().sum())
    assert bound(Objective(weak), first).allowed == pytest.approx(1e-6)  # dense: one mode
    certificate = bound(Objective(weak), first, diagonal=True)
    assert certificate.gap < 1e-6 and not certificate.holds


def test_weighted_rows_have_their_own_least_squares():
    draw = generator("certificate", 4)
    base = linear_teacher(generator=draw, noise=0.5)
    seen = (torch.rand(base.targets.shape, generator=draw) < 0.5).double()
    fits = [
        np.linalg.lstsq((base.inputs * seen[i]).T.numpy(), (seen[i] * y).numpy(), rcond=None)[0]
        for i, y in enumerate(base.targets)
    ]
    best = torch.tensor(np.array(fits)) @ base.inputs
    o = Objective(base, loss=squared(seen))
    assert bound(o, best).holds
    assert bound(o, best).least == pytest.approx(float(o.loss.value(best, base.targets)))
    assert not bound(o, 0.99 * best).holds
