"""The SGD kernel against autograd and torch.optim; passes, divergence, resuming."""

import pytest
import torch

from learning_dynamics.kernels import mlp_torch as passes
from learning_dynamics.kernels.mlp_torch import hidden
from learning_dynamics.losses import loss as find_loss
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.scales.training import batch_order, initialise, load, save, sgd

WIDTHS = (5, 12, 4, 12, 3)
MULTIPLIERS = (0.7, 1.3, 0.9, 0.5)
STDS = (0.5, 0.4, 0.6, 0.3)
D = torch.float64


def problem() -> Problem:
    """17 random inputs, one-hot targets of three classes."""
    g = generator("test training", 17)
    x = torch.randn(5, 17, generator=g, dtype=torch.float64)
    which = torch.randint(3, (17,), generator=g)
    return Problem(x, torch.nn.functional.one_hot(which, 3).double().mT.contiguous())


def start(seeds=(0,), momentum=False):
    """Small alternating widths."""
    return initialise(WIDTHS, STDS, seeds, momentum=momentum, dtype=D)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_equals_torch_optim_sgd(loss, activation, momentum):
    """25 steps on batches of 6, 6, 5: the same weights as autograd with torch.optim.SGD."""
    p, ratios = problem(), (1.0, 2.0, 0.5, 1.0)
    state = start(momentum=momentum > 0)
    theirs = [w[0].clone().requires_grad_() for w in state.weights]
    psi = {"relu": torch.relu, "tanh": torch.tanh}[activation]
    groups = [{"params": [w], "lr": 0.05 * r} for w, r in zip(theirs, ratios, strict=True)]
    optimiser = torch.optim.SGD(groups, momentum=momentum)
    for step in range(25):
        order = batch_order(0, step // 3, 17)
        batch = order[(step % 3) * 6 : (step % 3) * 6 + 6]
        h = p.inputs[:, batch]
        for layer, (w, g) in enumerate(zip(theirs, MULTIPLIERS, strict=True)):
            h = g * w @ h
            h = psi(h) if layer < 3 else h
        optimiser.zero_grad()
        find_loss(loss).value(h, p.targets[:, batch]).backward()
        optimiser.step()
    options = {"seeds": [0], "step_size": 0.05, "steps": 25, "batch_size": 6}
    options |= {"loss": loss, "activation": activation, "momentum": momentum}
    run = sgd(p, state, MULTIPLIERS, step_ratios=ratios, **options)
    ours, wanted = [w[0] for w in run.final.weights], [w.detach() for w in theirs]
    torch.testing.assert_close(ours, wanted, rtol=1e-11, atol=1e-12)


def test_a_pass_visits_each_sample_once():
    orders = [batch_order(s, e, 50) for s in (0, 1) for e in (0, 1)]
    assert all(torch.equal(o.sort().values, torch.arange(50)) for o in orders)
    assert len({tuple(o.tolist()) for o in orders}) == 4
    assert torch.equal(orders[1], batch_order(0, 1, 50))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_checkpoint_file_continues_bit_for_bit(tmp_path, momentum):
    p, options = problem(), {"seeds": [0, 1], "step_size": 0.05, "batch_size": 4}
    options["momentum"] = momentum
    whole, half = (
        sgd(p, start([0, 1], momentum > 0), MULTIPLIERS, steps=n, **options) for n in (23, 9)
    )
    save(half.final, tmp_path / "run.npz")
    rest = sgd(p, load(tmp_path / "run.npz"), MULTIPLIERS, steps=23, **options)
    assert rest.final.step == 23 and torch.equal(rest.diverged_at, whole.diverged_at)
    assert all(map(torch.equal, whole.final.weights, rest.final.weights))


def test_a_checkpoint_that_is_none_is_refused(tmp_path):
    path = tmp_path / "run.npz"
    save(start(), path)
    whole = path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    for content in (b"", whole[:-40], b"no archive"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"run\.npz': not a checkpoint, or cut short"):
            load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("rows", [64, 100, 128, 150])
def test_panels_change_nothing(monkeypatch, momentum, rows):
    """Weights read and updated panel by panel (64 rows, a rest of any size), or at once."""
    found, options = [], {"seeds": [0], "step_size": 0.1, "steps": 3, "batch_size": 6}
    for panel in (1, 1 << 30):
        monkeypatch.setattr(passes, "PANEL", panel)
        state = initialise((5, 30, rows, 30, 3), STDS, [0], momentum=momentum > 0, dtype=D)
        found.append(sgd(problem(), state, MULTIPLIERS, momentum=momentum, **options).final.weights)
    assert len(passes._panels(found[0][1])) == 1
    torch.testing.assert_close(*found, rtol=1e-13, atol=1e-13)


def test_divergence_is_recorded_and_never_dropped():
    p = problem()
    sizes = torch.tensor([0.05, 5.0], dtype=torch.float64)
    options = {"batch_size": 17, "evaluate": {"train": p}, "record": (0, 20, 40)}
    options |= {"observe": lambda s: {"norm": s.weights[0].norm(dim=(1, 2))}, "steps": 40}
    options |= {"activation": "linear"}  # large steps kill ReLU units instead
    run = sgd(p, start([0, 0]), MULTIPLIERS, seeds=[0, 0], step_size=sizes, **options)
    assert run.diverged_at[0] == -1 and 0 < run.diverged_at[1] <= 20
    assert torch.isinf(run["train_loss"][1, 1:]).all() and run["train_loss"].isfinite()[0].all()
    assert torch.isinf(run["train_loss"].mean(0)[-1])  # a mean shows it
    assert (run["train_accuracy"][1, 1:] == 0).all()
    assert run["norm"][1, 1:].isnan().all() and run["norm"][0].isfinite().all()
    alone = sgd(p, start([0]), MULTIPLIERS, seeds=[0], step_size=5.0, **options)
    assert alone.final.step <= 20  # stops early and keeps its records
    assert torch.equal(alone["train_loss"], run["train_loss"][1:])


def test_equal_seeds_share_their_draws_and_scale_with_the_deviation():
    a, b = start([3, 3, 4]), initialise(WIDTHS, [2 * s for s in STDS], [3], dtype=torch.float64)
    for wa, wb in zip(a.weights, b.weights, strict=True):
        assert torch.equal(wa[0], wa[1]) and not torch.equal(wa[0], wa[2])
        torch.testing.assert_close(2 * wa[0], wb[0])
    big = initialise((400, 500, 2), (0.5, 1.0), [0])
    assert abs(float(big.weights[0].std()) / 0.5 - 1) < 0.01


def test_hidden_layers_are_those_of_the_definition():
    state, x = start(), problem().inputs
    h = hidden(state.weights, MULTIPLIERS, x[None])
    assert [t.shape[1] for t in h] == list(WIDTHS)
    expected = torch.relu(1.3 * state.weights[1] @ h[1])
    torch.testing.assert_close(h[2], expected)


def test_accuracy_of_one_output_is_agreement_of_signs():
    x = torch.randn(3, 400, generator=generator("one output"))
    labels, state = torch.sign(x[:1] + 0.1), initialise((3, 8, 1), (1.0, 1.0), [0])
    usual = {"seeds": [0], "step_size": 0.1, "steps": 0, "batch_size": 8, "record": (0,)}
    signs, numbers = (
        sgd(p, state.clone(), (1.0, 1.0), evaluate={"t": p}, **usual)
        for p in (Problem(x, labels), Problem(x, x[:1]))
    )
    f = hidden(state.weights, (1.0, 1.0), x[None], "relu")[-1]
    right = float((f.sign() == labels).float().mean())
    assert float(signs["t_accuracy"][0, 0]) == pytest.approx(right)
    assert 0.1 < right < 0.95 and "t_accuracy" not in numbers.observables


def test_large_targets_are_no_divergence():
    x = torch.randn(3, 64, generator=generator("dollars"))
    problem = Problem(x, 1000 * x[:1])
    state = initialise((3, 8, 1), (1.0, 1.0), [0])
    options = {"seeds": [0], "step_size": 1e-3, "steps": 50, "batch_size": 16, "record": (50,)}
    run = sgd(problem, state, (1.0, 1.0), evaluate={"t": problem}, **options)
    assert int(run.diverged_at[0]) == -1 and float(run["t_loss"][0, -1]) < 5e5


def test_batched_runs_equal_single_runs():
    """Three runs of two seeds and three step sizes at once, or one by one."""
    p = problem()
    options = {"steps": 20, "batch_size": 5, "record": range(0, 21, 5), "evaluate": {"train": p}}
    sizes = torch.tensor([0.02, 0.1, 0.05], dtype=torch.float64)
    seeds = [0, 0, 1]
    together = sgd(p, start(seeds), MULTIPLIERS, seeds=seeds, step_size=sizes, **options)
    for losses, seed, eta in zip(together["train_loss"], seeds, sizes.tolist(), strict=True):
        alone = sgd(p, start([seed]), MULTIPLIERS, seeds=[seed], step_size=eta, **options)
        torch.testing.assert_close(losses, alone["train_loss"][0], rtol=1e-12, atol=0)
    assert together["train_loss"].shape == (3, 5)
    assert together.to_dataset().train_accuracy.dims == ("run", "step")
