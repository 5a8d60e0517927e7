"""Code compiled for large ReLU nets on a CPU: the numbers of the library's products, on any shape."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learning_dynamics.activations import activation
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.scales import thin_passes
from learning_dynamics.scales.passes import Passes
from learning_dynamics.scales.thin_passes import ThinPasses
from learning_dynamics.scales.training import initialise, sgd

pytest.importorskip("llvmlite")
from learning_dynamics import code_writer  # noqa: E402
from learning_dynamics.scales import thin_code  # noqa: E402

pytestmark = pytest.mark.skipif(
    code_writer.register_file() is None, reason="no fused multiply-add on this machine"
)
RELU, ETA = activation("relu"), 0.1


def steps(kind, widths, batch, dtype, count=3):
    """Outputs of `count` steps on random samples and errors, and the weights in the end."""
    g = generator("thin passes", *widths, batch)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    weights = [draw(1, b, a) / a**0.5 for a, b in zip(widths, widths[1:], strict=False)]
    multipliers = [0.5 + 0.1 * k for k in range(len(weights))]
    ratios = [1.0 + 0.3 * k for k in range(len(weights))]
    if kind is ThinPasses:
        passes = ThinPasses(weights, multipliers, ratios, ETA, batch)
    else:
        passes = Passes(weights, None, multipliers, ratios, RELU, ETA)
    outputs = []
    for _ in range(count):
        outputs.append(passes.forward(draw(1, batch, widths[0])).clone())
        passes.backward(draw(1, batch, widths[-1]))
    return [*outputs, *weights]


def agree(ours, theirs, tolerance):
    """Within a tolerance relative to the largest number of each tensor."""
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0.0, atol=tolerance * float(b.abs().max()) + 1e-300)


@pytest.mark.parametrize("batch", [1, 5, 8, 12, 16, 100])
def test_the_numbers_of_the_library(batch):
    """Widths below, at and beyond a register, a strip, a block of terms and groups of rows and
    of columns."""
    widths = (1700, 97, 3, 48, 900, 820, 1)
    agree(*(steps(k, widths, batch, torch.float64) for k in (ThinPasses, Passes)), 1e-12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 150), min_size=2, max_size=4), st.sampled_from([1, 7, 13, 20, 33]))
def test_any_widths(widths, batch):
    agree(*(steps(k, widths, batch, torch.float64) for k in (ThinPasses, Passes)), 1e-12)


@pytest.mark.parametrize("batch", [5, 12, 16])
def test_blocks_of_any_size(batch, monkeypatch):
    """Blocks so small that every layer has whole and cut ones of each kind."""
    thin_code.thin_code.cache_clear()
    sizes = {"FORWARD_DEPTH": 16, "BACKWARD_DEPTH": 8, "ROWS": 16, "MANY_ROWS": 32}
    for name, value in sizes.items():
        monkeypatch.setattr(thin_code, name, value)
    widths = (70, 45, 13, 100, 2)
    agree(*(steps(k, widths, batch, torch.float64) for k in (ThinPasses, Passes)), 1e-12)
    thin_code.thin_code.cache_clear()


@pytest.mark.parametrize("batch", [9, 24, 100])
def test_float32(batch):
    """Sums of at most 600 terms, each rounded to 6e-8: 1e-5 is seven times what was seen."""
    widths = (600, 70, 130, 5)
    agree(*(steps(k, widths, batch, torch.float32) for k in (ThinPasses, Passes)), 1e-5)


def test_with_few_registers(monkeypatch):
    """The code for machines with 16 registers of four numbers, run on any wider one."""
    if code_writer.register_file()[0] < 32:
        pytest.skip("narrower registers")
    thin_code.thin_code.cache_clear()
    monkeypatch.setattr(code_writer, "register_file", lambda: (32, 16))
    for batch in (6, 21, 100):
        agree(*(steps(k, (70, 30, 9), batch, torch.float64) for k in (ThinPasses, Passes)), 1e-12)
    thin_code.thin_code.cache_clear()


def test_threads_do_not_change_a_bit():
    """Rows and columns are shared; each number is computed by one thread, in one order."""
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(steps(ThinPasses, (700, 40, 900, 3), 20, torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def train(widths=(20, 40, 6, 30, 3), samples=50, steps=12, step_size=0.05, state=None, **options):
    """Batches of 16, 16, 16 and 2."""
    g = generator("thin training", samples)
    p = Problem(torch.rand(widths[0], samples, generator=g, dtype=torch.float64),
                torch.rand(widths[-1], samples, generator=g, dtype=torch.float64))
    seeds = options.pop("seeds", [0])
    state = state or initialise(widths, (0.3,) * (len(widths) - 1), seeds, dtype=torch.float64,
                                momentum="momentum" in options)
    return sgd(p, state, (1.0,) * (len(widths) - 1), seeds=seeds, step_size=step_size,
               steps=steps, batch_size=16, evaluate={"train": p},
               record=range(state.step, steps + 1, 4), **options)


@pytest.fixture
def used(monkeypatch):
    """Small nets count as large; gives the number of steps taken by compiled code."""
    monkeypatch.setattr(thin_passes, "LEAST_WEIGHTS", 0)
    count, backward = [], ThinPasses.backward
    monkeypatch.setattr(
        ThinPasses, "backward", lambda self, d: (count.append(1), backward(self, d))
    )
    return count


def test_a_run_is_the_same(used, monkeypatch):
    """Whole batches by the code, the rest of a pass by the library; losses and weights agree."""
    ours = train()
    assert len(used) == 9
    monkeypatch.setattr(thin_passes, "LEAST_WEIGHTS", 1 << 60)
    theirs = train()
    assert len(used) == 9
    agree(ours.final.weights, theirs.final.weights, 1e-12)
    agree([ours.observables["train_loss"]], [theirs.observables["train_loss"]], 1e-12)


def test_a_run_goes_on_bit_for_bit(used):
    whole = train()
    half = train(steps=5)
    rest = train(state=half.final)
    assert used
    for a, b in zip(whole.final.weights, rest.final.weights, strict=True):
        assert torch.equal(a, b)


def test_divergence_is_noticed_at_the_same_step(used, monkeypatch):
    ours = train(step_size=40.0)
    assert used and int(ours.diverged_at) > 0
    monkeypatch.setattr(thin_passes, "LEAST_WEIGHTS", 1 << 60)
    theirs = train(step_size=40.0)
    assert torch.equal(ours.diverged_at, theirs.diverged_at)
    assert torch.equal(ours.observables["train_loss"], theirs.observables["train_loss"])


@pytest.mark.parametrize(
    "options",
    [{"momentum": 0.9}, {"seeds": [0, 1]}, {"activation": "tanh"}, {"widths": (20, 7, 3)}],
)
def test_nets_that_it_cannot_train_are_left_to_the_library(used, monkeypatch, options):
    if "widths" in options:
        monkeypatch.setattr(thin_passes, "LEAST_WEIGHTS", 20 * 7 + 7 * 3 + 1)
    train(**options)
    assert not used


def test_large_batches_are_left_to_the_library(used, monkeypatch):
    monkeypatch.setattr(thin_passes, "LARGEST_BATCH", 15)
    train()
    assert not used
