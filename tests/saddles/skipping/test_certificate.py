"""No point is called a minimum without the certificate that proves it."""

import math

import numpy as np
import pytest
import torch
from sklearn import datasets

from learning_dynamics.data.published import diagonal_pair, three_point
from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.skipping.algorithm import skip_plateaus
from learning_dynamics.saddles.skipping.certificate import certify
from learning_dynamics.saddles.skipping.objective import Objective
from learning_dynamics.saddles.two_layer import Weights, gradient_descent


def rank_constrained(problem, rank):
    """The least loss over maps of this rank and L(0), by NumPy alone: (shares of |Y|^2)."""
    x, y = problem.inputs.double().numpy(), problem.targets.double().numpy()
    x = x / np.abs(x).max(1, keepdims=True).clip(5e-324)
    x, y = x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-300), y / np.abs(y).max()
    fit = (np.linalg.lstsq(x.T, y.T, rcond=None)[0].T) @ x
    energies = np.linalg.svd(fit, compute_uv=False) ** 2
    return (np.sum((y - fit) ** 2) + energies[rank:].sum()) / np.sum(y**2), energies / np.sum(y**2)


def base_problem():
    return linear_teacher(generator=generator("certificate", 0), noise=0.1)


def judged(problem, width=12, **options):
    """The path, after testing what its status says: within 1e-6 of the bound, below any saddle."""
    found = skip_plateaus(problem, width=width, **options)
    certificate = found.certificate
    assert (certificate is not None) == (found.status in ("minimum", "uncertified"))
    assert all(math.isfinite(s.loss) for s in found.saddles)
    assert found.path.status == found.status
    if certificate is not None:
        share = found.saddles[-1].loss / found.saddles[0].loss if found.saddles[0].loss else 1.0
        least, energies = rank_constrained(problem, width)
        excess = share - least
        assert math.isfinite(certificate.gap) and math.isfinite(certificate.least)
        if found.saddles[0].loss > 1e-280:
            assert certificate.gap == pytest.approx(excess, abs=1e-9)
        if found.status == "minimum":
            assert excess <= 1e-6 and excess < energies[energies > 1e-20].min(initial=1.0)
    return found


def random_problem(seed):
    """Sizes, spectra, noise and number of samples (also fewer than inputs) at random."""
    draw = generator("certificate", seed)
    ranges = ((2, 8), (1, 5), (2, 30))
    m0, m2, n = (int(torch.randint(*r, (1,), generator=draw)) for r in ranges)
    rank, noise = 1 + seed % m2, (0.0, 0.1, 1.0)[seed % 3]
    shapes = (m0, m0), (m0, n), (m2, rank), (rank, m0), (m2, n)
    mix, x, left, right, e = (torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes)
    return Problem(mix @ x, left @ right @ mix @ x + noise * e)


def test_linear_ends_are_certified_only_at_the_least_squares_loss():
    seen = [judged(random_problem(seed), max_steps=300).status for seed in range(24)]
    assert seen.count("minimum") >= 10  # and the certificate is not empty


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-7, 1e-13, 1e-100, 1e-170])
def test_small_data_are_not_at_a_minimum_because_they_are_small(scale):
    base = base_problem()
    found = judged(Problem(scale * base.inputs, scale * base.targets))
    assert found.status == ("minimum" if scale >= 1e-3 else "uncertified")
    if found.status == "uncertified":  # it stays at the origin, and says how far that is off
        assert len(found.saddles) == 1 and found.certificate.gap > 0.9


@pytest.mark.parametrize("factor", [1e-20, 1e-8, 1e-4, 1e4, 1e8])
def test_one_feature_in_other_units(factor):
    base = base_problem()
    units = torch.tensor([factor, 1, 1, 1, 1, 1], dtype=torch.float64)[:, None]
    found = judged(Problem(units * base.inputs, base.targets), max_steps=300)
    assert found.status != "minimum" or factor == 1e-4


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "linnerud"])
def test_raw_tables(name):
    table = getattr(datasets, f"load_{name}")()
    y = np.atleast_2d(table.target.T).astype(float)
    problem = Problem(torch.tensor(table.data.T.copy()), torch.tensor(y))
    assert judged(problem, max_steps=300).status != "minimum"
    x = (table.data - table.data.mean(0)) / table.data.std(0)
    centred = torch.tensor(y - y.mean(1, keepdims=True))
    assert judged(Problem(torch.tensor(x.T.copy()), centred), max_steps=300).status == "minimum"


@pytest.mark.parametrize("mean", [1e3, 1e5])
def test_a_large_mean_of_the_targets_hides_no_saddle(mean):
    """Its loss falls by more than 1e-6 at once, but nothing else has been learned."""
    base = base_problem()
    x = torch.cat([base.inputs, torch.ones(1, 40, dtype=torch.float64)])
    found = judged(Problem(x, base.targets + mean))
    assert found.status == "uncertified" and found.certificate.gap < 1e-5


@pytest.mark.parametrize("degrees", [0.0, 1e-4, 1e-2, 1.0])
def test_near_commuting_inputs(degrees):
    """With one unit gradient descent slides on to the other mode: no minimum is claimed."""
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[cosine, -sine], [sine, cosine]])
    latent = torch.linalg.qr(torch.randn(4, 2, generator=generator("certificate", 1)).double())[0]
    covariance, correlation = torch.tensor([[4.0, 0.5], [2.4, 1.5]], dtype=torch.float64)
    x = rotation.double() @ (2 * covariance.sqrt()[:, None] * latent.mT)
    problem = Problem(x, (correlation / covariance)[:, None] * x)
    assert judged(problem, width=1).status == "width"
    assert judged(problem, width=2).status == "minimum"


def test_collinear_features():
    base = base_problem()
    for small, status in ((0.0, "minimum"), (1e-9, "uncertified")):
        x = base.inputs.clone()
        x[1] = x[0] + small * x[1]
        assert judged(Problem(x, base.targets)).status == status


def relu_teacher(outputs, seed, samples=20, width=24):
    """Four inputs and a bias, three ReLU units of strength 3, 1.5, .7; starts of norm one."""
    draw = generator("certificate/relu", seed)

    def unit(rows, columns):
        w = torch.randn(rows, columns, generator=draw, dtype=torch.float64)
        return w / w.norm(dim=1, keepdim=True)

    x = torch.randn(4, samples, generator=draw, dtype=torch.float64)
    x = torch.cat([x, torch.ones(1, samples, dtype=torch.float64)])
    strength = torch.tensor([3.0, 1.5, 0.7], dtype=torch.float64)
    y = (unit(3, outputs).mT * strength) @ torch.relu(unit(3, 5) @ x)
    return Problem(x, y), unit(width, 5 + outputs)


@pytest.mark.parametrize("seed", [0, 2])
def test_where_copies_of_a_relu_unit_part_no_minimum_is_claimed(seed):
    """Two outputs: gradient descent from 1e-12 ends far below the point where nothing becomes active."""
    problem, starts = relu_teacher(2, seed)
    found = skip_plateaus(problem, width=24, activation="relu", starts=starts)
    step = 0.25 / float(torch.linalg.matrix_norm(problem.inputs @ problem.targets.mT / 20, 2))
    w = Weights(1e-12 * starts[None, :, :5], 1e-12 * starts[None, :, 5:].mT)
    options = {"step_size": step, "steps": 5000, "activation": "relu"}
    run = gradient_descent(w, problem, record_at=torch.tensor([5000]), **options)
    assert float(run["loss"][0, 0]) < 0.01 * found.saddles[-1].loss
    assert found.status == "uncertified" and found.certificate.gap > 0.1


@pytest.mark.parametrize("outputs", [2, 3])
def test_relu_nets_end_at_a_minimum_only_at_loss_zero(outputs):
    for seed in range(4):
        problem, starts = relu_teacher(outputs, seed, samples=6, width=6)
        options = {"activation": "relu", "max_steps": 200, "max_stages": 3}
        found = skip_plateaus(problem, width=6, starts=starts, **options)
        share = found.saddles[-1].loss / found.saddles[0].loss
        assert found.status != "minimum" or share <= 1e-6, seed


def test_the_zero_of_a_relu_loss_is_measured_by_what_no_line_fits():
    x = torch.tensor([[-2.0, -1.0, 0.0, 1.0, 2.0], [1.0] * 5], dtype=torch.float64)
    problem = Problem(x, x[:1].abs() + 1e5)
    line = problem.targets.mean() * torch.ones_like(problem.targets)  # its kink is missed
    o = Objective(problem, activation="relu")
    assert certify(o, line).gap < 1e-6 and not certify(o, line).holds
    assert certify(o, problem.targets).holds


def test_one_output_is_not_certified_either():
    """The three points: the least-squares line is where a ReLU net ends; linear nets prove it."""
    draw = generator("certificate", 3)
    found = skip_plateaus(three_point(), width=8, activation="relu", generator=draw)
    assert found.status == "uncertified" and found.certificate.gap > 0.1
    problem = three_point()
    line = problem.targets @ torch.linalg.pinv(problem.inputs) @ problem.inputs
    for activation in ("relu", "tanh", "linear"):
        holds = certify(Objective(problem, activation=activation), line).holds
        assert holds == (activation == "linear")


def test_separable_labels_have_no_minimum():
    x = torch.tensor([[1.0, 2.0, -1.0, -2.0]], dtype=torch.float64)
    for scale in (1.0, 1e3):
        o = Objective(Problem(x, x.sign()), loss="logistic")
        assert not certify(o, scale * x).holds and certify(o, scale * x).gap is None


def test_a_diagonal_net_is_compared_with_leaving_one_coordinate_out():
    problem = diagonal_pair()
    o = Objective(problem)
    x, y = problem.inputs, problem.targets
    for only in (0, 1):
        row = x[[only]]
        fit = (y @ row.mT / row.square().sum()) * row
        certificate = certify(o, fit, diagonal=True)
        assert not certificate.holds
        assert certificate.gap == pytest.approx(float((y - fit).square().sum() / y.square().sum()))
    assert certify(o, y, diagonal=True).holds
    weak = Problem(x, torch.tensor([[1.0, 1e-4]], dtype=torch.float64) @ x)
    first = x[:1] * float(weak.targets @ x[0] / x[0].square().sum())
    assert certify(Objective(weak), first).allowed == pytest.approx(1e-6)  # dense: one mode
    certificate = certify(Objective(weak), first, diagonal=True)
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
    assert certify(o, best).holds
    assert certify(o, best).least == pytest.approx(float(o.loss.value(best, base.targets)))
    assert not certify(o, 0.99 * best).holds
