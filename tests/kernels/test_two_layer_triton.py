"""The Triton kernels against torch: by Triton's interpreter on a CPU, compiled where a GPU is."""

import os

import mpmath
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are first imported

from learning_dynamics.activations import activation, leaky_relu
from learning_dynamics.kernels.two_layer_torch import Data, DenseKernel
from learning_dynamics.losses import Loss, cross_entropy, huber, logistic, squared
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.two_layer import choose_kernel, initialise

triton = pytest.importorskip("triton")
pytestmark = pytest.mark.audit
AT = "cuda" if torch.cuda.is_available() else "cpu"
#: Two tiles; compiled, so many that several programs share a run.
SAMPLES = 69 if AT == "cuda" else 21
ACTIVATIONS = [*map(activation, ("linear", "relu", "tanh", "gelu", "softplus")), leaky_relu(0.2)]


def random(*shape):
    return torch.randn(*shape, generator=generator("triton", *shape), dtype=torch.float64)


def loss_of(name, m2, n, dtype=torch.float64, device=AT):
    makers = {"huber": lambda: huber(0.3), "logistic": logistic, "cross_entropy": cross_entropy}
    makers |= {
        "weighted": lambda: squared(random(m2, n).abs().to(device, dtype)),
        "squared": squared,
    }
    return makers[name]()


def stepped(kind, act, sizes, loss, scale, dtype, own, device, factor=1.0):
    """Weights after the steps; run 1 is frozen."""
    m0, m1, m2, n = sizes
    lead = (2,) if own else ()
    x, y = random(*lead, m0, n), random(*lead, m2, n)
    y = {"logistic": y.sign(), "cross_entropy": y.softmax(-2)}.get(loss.name, y)
    start = initialise((m0, m1, m2), scale, [generator("triton", i) for i in range(2)])
    packed = [factor * p.to(device, dtype) for p in DenseKernel.pack(start)]
    eta = torch.tensor([0.3, 0.0], dtype=dtype, device=device).reshape(-1, 1, 1) / n
    data = Data(*(t.to(device, dtype).contiguous() for t in (x, x.mT, y)))
    kernel = kind(2, sizes, act, packed[0])
    kernel.bind(packed, data, loss, eta)
    kernel.advance(1)
    kernel.advance(2)
    return [*packed, kernel.outputs()]


def of(act, sizes, loss, dtype):
    like = torch.empty(0, dtype=dtype, device=AT)
    kernel, backend = choose_kernel(act, sizes, like, backend="triton", criterion=loss)
    assert backend == "triton"
    return kernel


@pytest.mark.parametrize("name", ["squared", "weighted", "huber", "logistic", "cross_entropy"])
@pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda a: a.name)
def test_the_steps_of_torch_relative_to_the_weights(act, name):
    """Several tiles of samples, padding on all sides; also where all units are dormant."""
    cases = [((5, 7, 3, SAMPLES), 0.3, torch.float64), ((3, 18, 2, 16), 1e-20, torch.float64)]
    for number, (sizes, scale, dtype) in enumerate([*cases, ((5, 7, 3, 9), 0.3, torch.float32)]):
        loss = loss_of(name, *sizes[2:], dtype)
        plain = loss_of(name, *sizes[2:], torch.float64, "cpu")
        kind, own = of(act, sizes, loss, dtype), number == 1
        ours = stepped(kind, act, sizes, loss, scale, dtype, own, AT)
        theirs = stepped(DenseKernel, act, sizes, plain, scale, torch.float64, own, "cpu")
        for a, b in zip(ours, theirs, strict=True):
            apart = (a.cpu().double() - b).abs().flatten(1).amax(1) / b.abs().flatten(1).amax(1)
            assert apart.max() < (1e-12 if dtype == torch.float64 else 2e-6)
        start = initialise(sizes[:3], scale, [generator("triton", i) for i in range(2)])
        assert torch.equal(ours[0][1].cpu(), start.w1[1].to(dtype))


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
    act, sizes = activation(act), (4, 7, 3, 13)
    loss = loss_of(name, 3, 13)
    for factor in (float("nan"), float("inf")):
        ours, theirs = (
            stepped(kind, act, sizes, loss, 0.3, torch.float64, False, device, factor)[2]
            for kind, device in ((of(act, sizes, loss, torch.float64), AT), (DenseKernel, "cpu"))
        )
        assert torch.equal(ours.cpu().isfinite(), theirs.isfinite())


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
