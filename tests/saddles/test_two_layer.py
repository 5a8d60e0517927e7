"""The ensemble kernel: exact gradients, records, stops, divergence, devices."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from learning_dynamics.kernels import ensemble
from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem, linear_teacher
from learning_dynamics.runtime import generator
from learning_dynamics.saddles import two_layer
from learning_dynamics.saddles.two_layer import (
    OBSERVABLES,
    Stop,
    Weights,
    gradient,
    gradient_descent,
    initialise,
    uniform_grid,
)

RUNS = 3


def case(loss="squared"):
    """A problem with targets that suit the loss, one for each run but if squared; and the loss."""
    g, lead = generator("two-layer", loss), () if loss == "squared" else (RUNS,)
    x, y = (torch.randn(*lead, m, 8, generator=g, dtype=torch.float64) for m in (5, 3))
    y = torch.softmax(y, -2) if loss == "cross_entropy" else y
    if loss == "weighted":
        loss = squared(torch.rand(*lead, 3, 8, generator=g, dtype=torch.float64))
    return Problem(x, y), loss


def start(scale=0.3, runs=RUNS, widths=(5, 7, 3)):
    return initialise(widths, scale, [generator("start", i) for i in range(runs)])


def recursion(weights, problem, step_size, steps, **options):
    """The states of steps 0 to `steps` of the plain recursion."""
    states, eta = [], torch.as_tensor(step_size, dtype=torch.float64).reshape(-1, 1, 1)
    for _ in range(steps + 1):
        states.append(gradient(weights, problem, **options))
        weights = Weights(
            *(w - eta * g for w, g in zip(weights, states[-1].gradients, strict=True))
        )
    return states


@pytest.mark.parametrize("loss", ["squared", "cross_entropy", "weighted"])
@pytest.mark.parametrize("name", ["linear", "relu", "gelu"])
def test_records_are_states_of_the_plain_recursion(name, loss):
    (problem, loss), grid = case(loss), [0, 1, 2, 9, 30]
    eta, options = torch.tensor([0.05, 0.1, 0.2]).double(), {"activation": name, "loss": loss}
    states = recursion(start(), problem, eta, 30, **options)
    options |= {"record_at": torch.tensor(grid), "observables": tuple(OBSERVABLES)}
    run = gradient_descent(start(), problem, step_size=eta, steps=30, **options)
    for key, (observe, _, _) in OBSERVABLES.items():
        expected = torch.stack([observe(states[t]) for t in grid], 1)
        torch.testing.assert_close(run[key], expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(run.final.w1, states[30].weights.w1, rtol=1e-12, atol=1e-12)


def test_a_run_depends_neither_on_its_company_nor_on_threads(monkeypatch):
    problem, _ = case()

    def losses():
        options = {"step_size": 0.1, "steps": 50, "activation": "relu"}
        return gradient_descent(start(runs=9), problem, **options)["loss"]

    together = losses()
    with monkeypatch.context() as patch:
        patch.setattr(ensemble, "CACHE", 1)  # one run a chunk
        torch.testing.assert_close(together, losses(), rtol=1e-13, atol=0)
    monkeypatch.setattr(ensemble, "THREAD_FLOPS", 1)
    torch.set_num_threads(2)
    try:
        assert torch.equal(together, losses()) and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("rule", [Stop(loss=0.8), Stop(gradient_norm=0.05)])
def test_stop_freezes_the_run_and_leaves_the_others_alone(rule):
    problem = linear_teacher(generator=generator("stop"))
    weights = start(1e-2, widths=(6, 8, 4))
    eta = torch.tensor([0.02, 0.05, 1e-4], dtype=torch.float64)
    options = {"step_size": eta, "steps": 900, "record_at": uniform_grid(900, 10)}
    options |= {"observables": ("loss", "gradient_norm", "w1")}
    free, held = (gradient_descent(weights, problem, stop=s, **options) for s in (None, rule))
    assert held.stopped_at.tolist()[2] == -1
    torch.testing.assert_close(held["loss"][2], free["loss"][2], rtol=1e-9, atol=0)
    for run in (0, 1):
        r = int((free.steps == held.stopped_at[run]).nonzero())
        met = free["loss"] <= rule.loss if rule.loss else free["gradient_norm"] <= 0.05
        assert r == int(met[run].nonzero()[0])
        torch.testing.assert_close(held["w1"][run, : r + 1], free["w1"][run, : r + 1])
        assert (held["w1"][run, r:] == held["w1"][run, r]).all()
        assert torch.equal(held.final.w1[run], held["w1"][run, r])


def test_divergence_is_found_at_its_exact_step():
    problem, _ = case()
    eta = torch.tensor([0.1, 3.0, 1.2], dtype=torch.float64)
    weights = start(1.0)
    options = {"record_at": torch.tensor([0, 20, 5000]), "on_divergence": "mark"}
    options |= {"observables": ("loss", "unit_singular_values")}
    run = gradient_descent(weights, problem, step_size=eta, steps=5000, **options)
    broken = torch.stack([~s.loss.isfinite() for s in recursion(weights, problem, eta, 60)])
    expected = torch.where(broken.any(0), broken.long().argmax(0), -1).tolist()
    assert run.diverged_at.tolist() == expected
    assert expected[0] == -1 and 0 < expected[1] < 20
    for name in run.observables:
        assert torch.isfinite(run[name][0]).all() and torch.isfinite(run[name][1, 0]).all()
        assert run[name][1, 1:].isnan().all()
    with pytest.raises(ValueError, match=f"run 1 diverged at step {expected[1]} .*step_size = 3"):
        gradient_descent(weights, problem, step_size=eta, steps=200)


def test_progress_counts_every_record():
    problem, seen = case()[0], []
    options = {"record_at": uniform_grid(300, 7), "progress": lambda *at: seen.append(at)}
    gradient_descent(start(), problem, step_size=0.1, steps=300, **options)
    assert seen == [(t, 300) for t in uniform_grid(300, 7).tolist()]


class NoReading(TorchDispatchMode):
    """Fails when a number is read back from the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "_local_scalar_dense" in str(func) or "nonzero" in str(func):
            raise AssertionError(f"{func} reads a number back")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["linear", "relu", "gelu"])
def test_nothing_is_read_back_within_a_block(monkeypatch, name):
    problem, _ = case()
    advance = ensemble.Ensemble._advance

    def watched(self, part, block):
        with NoReading():
            advance(self, part, block)

    monkeypatch.setattr(ensemble.Ensemble, "_advance", watched)
    options = {"step_size": 0.1, "steps": 200, "activation": name, "stop": Stop(loss=1e-3)}
    options |= {"observables": ("loss", "gradient_norm", "unit_norms")}
    gradient_descent(start(), problem, **options)
    bad = lambda s: s.loss * float(s.loss[0]), (), "1"
    monkeypatch.setitem(two_layer.OBSERVABLES, "bad", bad)
    with pytest.raises(AssertionError, match="reads a number back"):
        gradient_descent(start(), problem, **{**options, "observables": ("bad",)})
