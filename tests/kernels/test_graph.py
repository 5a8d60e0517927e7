"""Graph replay: what is captured repeats the step, whatever it is then bound to."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kernel_cases import ACTIVATIONS, LOSSES, case, random
from learning_dynamics.activations import activation
from learning_dynamics.kernels import graph
from learning_dynamics.kernels.two_layer_torch import DenseKernel, ProductKernel
from learning_dynamics.losses import squared
from learning_dynamics.problems import Problem
from learning_dynamics.saddles import two_layer
from learning_dynamics.saddles.two_layer import Stop, gradient_descent, uniform_grid
from learning_dynamics.scales import training


class Recorder(TorchDispatchMode):
    """Keeps what a CUDA graph keeps: the operations and their memory, no numbers of Python."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function is not torch.ops.aten._local_scalar_dense.default, "a number is read back"
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, result))
        return result


def record(step):
    """`graph.capture` on a CPU. Recording takes the step: the first replay is spared."""
    with Recorder() as mode:
        step()
    first = True

    def replay():
        nonlocal first
        for function, args, kwargs, result in [] if first else mode.calls:
            again = function(*args, **kwargs)
            for old, new in zip(*map(tree_leaves, (result, again)), strict=True):
                if isinstance(old, torch.Tensor) and not old.is_set_to(new):
                    old.copy_(new)
        first = False

    return replay


@pytest.fixture
def replays(monkeypatch):
    """Replay on the CPU too; how many steps were captured."""
    captured, start = [], graph.Replayed.__init__
    monkeypatch.setattr(graph, "capture", lambda step: captured.append(1) or record(step))
    monkeypatch.setattr(graph.Replayed, "__init__", lambda self, step, on: start(self, step, True))
    return captured


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("kind", [graph.GraphDense, graph.GraphProduct])
def test_replayed_runs_are_the_runs(monkeypatch, replays, kind, act, name):
    """Runs stop and diverge on the way, so that the kernel is bound to other memory."""
    if kind is graph.GraphProduct and act != "linear":
        return
    weights, problem, loss = case((4, 7, 3, 13), name, runs=6, own=True)
    options = {
        "step_size": torch.tensor([0.02, 0.05, 1e200, 0.1, 0.01, 1e199], dtype=torch.float64),
        "steps": 150,
        "activation": ACTIVATIONS[act],
        "loss": loss,
        "on_divergence": "mark",
        "stop": Stop(gradient_norm=0.1),
        "record_at": uniform_grid(150, 19),
    }
    usual = {graph.GraphDense: DenseKernel, graph.GraphProduct: ProductKernel}
    ends = []
    for taken in (usual[kind], kind):
        monkeypatch.setattr(two_layer, "choose_kernel", lambda *_, k=taken: (k, "graph"))
        ends.append(gradient_descent(weights, problem, **options))
    one, other = ends
    assert len(replays) >= 2
    assert torch.equal(one.diverged_at, other.diverged_at)
    assert torch.equal(one.stopped_at, other.stopped_at)
    torch.testing.assert_close(other["loss"], one["loss"], rtol=1e-10, atol=0, equal_nan=True)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_replayed_sgd_has_the_same_bits(monkeypatch, replays, momentum):
    """Also the smaller batch at the end of a pass, and the step at which a run diverges."""
    data = Problem(random(5, 23).float(), random(3, 23).float())
    options = {"seeds": [0, 1], "step_size": torch.tensor([0.02, 60.0]), "steps": 25}
    options |= {"batch_size": 5, "momentum": momentum}
    options |= {"evaluate": {"train": data}, "record": (0, 7, 25)}
    ends = []
    for step in (lambda update, on: update, graph.Replayed):
        monkeypatch.setattr(training, "Replayed", step)
        state = training.initialise((5, 8, 8, 3), (1.0,) * 3, [0, 1], momentum=momentum > 0)
        ends.append(training.sgd(data, state, (1.0,) * 3, **options))
    one, other = ends
    assert len(replays) == 2 and one.diverged_at[1] >= 0
    assert torch.equal(one.diverged_at, other.diverged_at)
    assert torch.equal(one["train_loss"], other["train_loss"])
    for a, b in zip(one.final.weights, other.final.weights, strict=True):
        assert torch.equal(a[0], b[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("backend", ["torch", "graph", "triton"])
@pytest.mark.parametrize("act", ["linear", "relu", "tanh"])
def test_a_gpu_takes_the_steps_of_the_cpu(backend, act):
    options = {"step_size": 0.02, "steps": 150, "activation": act}
    here, there = (
        gradient_descent(*case((4, 7, 3, 13), at=at)[:2], backend=kind, **options)
        for at, kind in (("cpu", "torch"), ("cuda", backend))
    )
    assert there.backend == backend
    torch.testing.assert_close(there["loss"].cpu(), here["loss"], rtol=1e-10, atol=0)


def test_only_what_reads_nothing_back_is_captured():
    own = squared().__class__("own", lambda f, y: 0.0, squared().residual)
    assert graph.can_capture(activation("tanh"), squared())
    assert not graph.can_capture(activation("tanh"), own)
    with pytest.raises(ValueError, match="backend = 'graph': .*weights on cpu"):
        two_layer.choose_kernel(activation("relu"), (4, 7, 3, 13), random(1), backend="graph")
