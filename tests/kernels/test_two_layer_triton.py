"""The Triton kernels against torch: by Triton's interpreter on a CPU, compiled where a GPU is."""

import itertools
import os

import mpmath
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are first imported

from kernel_cases import ACTIVATIONS, LOSSES, case, difference, stepped
from learning_dynamics.activations import activation
from learning_dynamics.kernels.two_layer_torch import Data, DenseKernel
from learning_dynamics.losses import Loss, squared
from learning_dynamics.saddles.two_layer import Weights, choose_kernel

triton = pytest.importorskip("triton")
pytestmark = pytest.mark.audit
AT = "cuda" if torch.cuda.is_available() else "cpu"
#: Two tiles; compiled, so many that several programs share a run.
SAMPLES = 69 if AT == "cuda" else 21


def of(act, sizes, loss, dtype):
    like = torch.empty(0, dtype=dtype, device=AT)
    kernel, backend = choose_kernel(act, sizes, like, backend="triton", criterion=loss)
    assert backend == "triton"
    return kernel


@pytest.mark.parametrize("name", [loss for loss in LOSSES if "by run" not in loss])
@pytest.mark.parametrize("act", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_the_steps_of_torch_relative_to_the_weights(act, name):
    """Several tiles of samples, padding on all sides; also where all units are dormant."""
    cases = [((5, 7, 3, SAMPLES), 0.3, torch.float64), ((3, 18, 2, 16), 1e-20, torch.float64)]
    for number, (sizes, scale, dtype) in enumerate([*cases, ((5, 7, 3, 9), 0.3, torch.float32)]):
        options = {"runs": 2, "own": number == 1, "scale": scale}
        given, plain = (
            case(sizes, name, dtype=dtype, at=AT, **options),
            case(sizes, name, **options),
        )
        ours = stepped(of(act, sizes, given[2], dtype), act, *given, looks=(1, 2))
        theirs = stepped(DenseKernel, act, *plain, looks=(1, 2))
        assert difference(ours, theirs) < (1e-12 if dtype == torch.float64 else 2e-6)


@pytest.mark.parametrize("name", ["tanh", "gelu", "softplus"])
def test_activations_are_accurate_relative_to_their_value(name):
    """By a net that gives sigma(z) back: from 1e-20 on, on both sides of where formulas change."""
    z = torch.cat([torch.logspace(-20, 1, 100), torch.linspace(0.09, 0.21, 28)]).double()
    z = torch.cat([z, -z if name != "gelu" else -z[z < 1]])  # there torch's own 1 + erf cancels
    exact = {
        "tanh": mpmath.tanh,
        "gelu": lambda a: a * mpmath.ncdf(a),
        "softplus": lambda a: mpmath.log1p(mpmath.expm1(a) / 2),
    }
    with mpmath.workdps(40):
        numbers = [float(exact[name](mpmath.mpf(a))) for a in z.tolist()]
    wanted = torch.tensor(numbers, dtype=torch.float64)
    act, one = activation(name), torch.ones(1, 1, dtype=torch.float64, device=AT)
    assert ((act(z) - wanted).abs() <= 1e-12 * wanted.abs()).all()
    # From w2 = 0 one step towards the target 1, on the sample 1, leads to w2 = sigma(z).
    packed = [z.reshape(-1, 1, 1).to(AT), torch.zeros(len(z), 1, 1).double().to(AT)]
    sizes = (1, 1, 1, 1)
    kernel = of(act, sizes, squared(), torch.float64)(len(z), sizes, act, packed[0])
    kernel.bind(packed, Data(one, one, one), squared(), torch.ones_like(packed[0]))
    kernel.advance(1)
    assert ((packed[1].flatten().cpu() - wanted).abs() <= 1e-12 * wanted.abs()).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, which interprets
@pytest.mark.parametrize("name", ["squared", "huber", "cross_entropy"])
@pytest.mark.parametrize("act", ["linear", "relu", "tanh"])
def test_a_broken_number_is_seen_as_in_torch(act, name):
    act, sizes, ends = activation(act), (4, 7, 3, 13), []
    for factor, at in itertools.product((float("nan"), float("inf")), (AT, "cpu")):
        weights, problem, loss = case(sizes, name, runs=2, scale=0.3, at=at)
        broken = Weights(*(factor * w for w in weights))
        kind = DenseKernel if len(ends) % 2 else of(act, sizes, loss, torch.float64)
        ends.append(stepped(kind, act, broken, problem, loss, looks=(1, 2))[3].isfinite())
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[2], ends[3])


@pytest.mark.parametrize(
    ("act", "loss", "sizes", "words"),
    [
        (activation("sigmoid"), squared(), (4, 7, 3, 13), "activation sigmoid: allowed are"),
        (activation("relu"), Loss("own", max, max), (4, 7, 3, 13), "loss own: allowed are"),
        (activation("relu"), squared(), (4, 999, 3, 13), r"padded \(16, 1024, 16\).* at most 6144"),
    ],
)
def test_what_it_does_not_take(act, loss, sizes, words):
    like = torch.empty(0, dtype=torch.float64, device=AT)
    with pytest.raises(ValueError, match=f"backend = 'triton': .*{words}"):
        choose_kernel(act, sizes, like, backend="triton", criterion=loss)
