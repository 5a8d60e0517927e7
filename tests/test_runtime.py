"""Generators, argument checks, and the trajectory as a labelled dataset."""

import pickle

import pytest
import torch
import xarray as xr

from learning_dynamics import runtime
from learning_dynamics.problems import Problem


def draw(*seed):
    return torch.randn(4, generator=runtime.generator(*seed))


def test_named_seeds():
    assert torch.equal(draw("plateau", 3), draw("plateau", 3))
    streams = [draw("plateau", 3), draw("plateau", 4), draw("drop", 3), draw(3), draw("plateau3")]
    assert all(not torch.equal(a, b) for i, a in enumerate(streams) for b in streams[:i])


def test_a_seed_is_the_same_on_every_machine():
    """The seed of a named stream, recorded: a change would move every number of the book."""
    assert runtime.generator("rank-k-saddles", 3).initial_seed() == 5968515932878731301


@pytest.mark.parametrize("seed", [(), (1.5,), (True,), (None,)])
def test_bad_seeds(as_users_run, seed):
    with pytest.raises(ValueError, match="seed"):
        runtime.generator(*seed)


ONES, PROBLEM = torch.ones, Problem(torch.ones(2, 3), torch.ones(1, 3))
NUMBERS = [
    (lambda: runtime.check_choice("loss", "x", ("b", "a")), "loss = 'x': allowed are a, b"),
    (
        lambda: runtime.check_positive("step_size", 0.0),
        "step_size = 0.0: must be a finite number > 0",
    ),
    (lambda: runtime.check_positive("noise", -1, zero=True), "noise = -1.*>= 0"),
    (lambda: runtime.check_positive("s", float("nan")), "s = nan"),
    (lambda: runtime.check_positive("s", float("inf")), "s = inf"),
    (lambda: runtime.check_positive("s", "1"), "s = '1'"),
    (lambda: runtime.check_positive("s", True), "s = True"),
    (lambda: runtime.check_positive("s", torch.tensor([1.0, 0.0])), "s = "),
    (lambda: runtime.check_integer("width", 0, least=1), "width = 0: must be an integer >= 1"),
    (lambda: runtime.check_integer("width", 2.0), "width = 2.0"),
    (lambda: runtime.check_integer("width", True), "width = True"),
    (lambda: runtime.check_shapes(x=(torch.full((2,), torch.nan), "3")), "x: shape"),
]
#: Tensors, each with what it should be, and what the complaint says.
TENSORS = [
    ({"x": (torch.tensor([[1.0, torch.nan]]), "a b")}, r"x\[\(0, 1\)\] = nan"),
    ({"x": (ONES(2, dtype=torch.int32), "a")}, "x: .*int32"),
    ({"x": ([1.0], "a")}, "x: .*list"),
    ({"x": (ONES(2), "int a")}, "x: must be a tensor of integers.*float"),
    ({"w": (ONES(2, 3), "... _ 4")}, r"w: shape \(2, 3\) has 4 = 3"),
    ({"w": (ONES(3), "... _ 3")}, r"w: shape \(3,\) must be \(..., _, 3"),
    ({"w": (ONES(1, 3), "a")}, r"w: shape \(1, 3\) must be \(a\)"),
    ({"w": (ONES(3, 0), "a b")}, r"w: shape \(3, 0\) must be \(a, b\)"),
    ({"a": (ONES(2, 3), "m n"), "b": (ONES(3, 4), "n m")}, r"b: .*3, 4\) has m = 4, a has 2"),
    ({"a": (ONES(2, 3), "*r n"), "b": (ONES(3), "*r n")}, r"b: .*3,\) has \*r = \(\), a has \(2,"),
    ({"a": (ONES(1), "n"), "b": (ONES(1).double(), "n")}, "b: .*64.*allowed is .*32.*as a"),
    ({"p": ("x", Problem)}, "p: must be a Problem, got str"),
    ({"p": (PROBLEM, Problem), "w": (ONES(3), "m0")}, r"w: .*3,\) has m0 = 3, p.inputs has 2"),
]
CHECKS = NUMBERS + [
    (lambda given=given: runtime.check_tensors(**given), words) for given, words in TENSORS
]


@pytest.mark.parametrize(("check", "words"), CHECKS)
def test_complaints_name_argument_value_and_what_is_allowed(as_users_run, check, words):
    with pytest.raises(ValueError, match=words):
        check()


@pytest.fixture
def trajectory():
    found = {"observables": {"loss": torch.rand(2, 3), "norm": torch.rand(2, 3, 4)}}
    found |= {"steps": torch.tensor([0, 10, 20]), "step_size": 0.05, "final": None}
    ends = {"diverged_at": torch.tensor([-1, 15]), "stopped_at": torch.tensor([-1, -1])}
    return runtime.Trajectory(dims={"norm": ("unit",)}, units={"loss": "loss"}, **found, **ends)


def test_dataset_has_names_and_units(trajectory, tmp_path):
    data = trajectory.to_dataset()
    assert data["loss"].dims == ("run", "step")
    assert data["norm"].dims == ("run", "step", "unit")
    assert data["loss"].attrs["units"] == "loss"
    assert data["step"].attrs["units"] == "steps"
    assert data["diverged_at"].values.tolist() == [-1, 15]
    assert data["step_size"].values.tolist() == [0.05, 0.05]
    data.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as back:
        xr.testing.assert_identical(back.load(), data)


def test_observables_by_name(trajectory):
    assert trajectory["norm"].shape == (2, 3, 4)
    with pytest.raises(ValueError, match="observable = 'speed': allowed are loss, norm"):
        trajectory["speed"]


@pytest.mark.parametrize("count", [7, 16, 31, 1000])
def test_standard_normal_numbers_are_those_of_torch_up_to_its_approximations(count):
    for dtype, apart in ((torch.float32, 4e-6), (torch.float64, 0.0)):
        ours = runtime.standard_normal(count, runtime.generator("normal"), dtype)
        theirs = torch.randn(count, generator=runtime.generator("normal"), dtype=dtype)
        assert (ours - theirs).abs().max() <= apart


def test_a_diverged_run_is_told_with_step_and_step_size_and_survives_pickling():
    values = torch.tensor([[1.0, 2.0], [torch.nan, 1.0]])
    with pytest.raises(
        runtime.Diverged, match="run 1 diverged at step 7 with step_size = 0.3"
    ) as caught:
        runtime.check_alive(values, 7, torch.tensor([0.1, 0.3]))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.run, copy.step, str(copy)) == (1, 7, str(caught.value))
    runtime.check_alive(values[:1], 7, 0.1)
