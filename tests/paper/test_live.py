"""The live figures compute what the package computes.

The JavaScript runs in the Node.js that the playwright package carries: no browser is needed.
"""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright._impl._driver import compute_driver_executable

from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.skipping.algorithm import skip_plateaus
from learning_dynamics.scales.orders import predict_exponents
from learning_dynamics.scales.parametrizations import scheme
from paper.live import LiveRun, moments_of, run_live, start_directions
from tables import text

LIVE = Path(__file__).parents[2] / "_static/live"
CORE = LIVE / "saddles_core.js"
SCRIPT = text("live.js")

#: Rounding only: both sides run the same recursion in double precision, in another order of
#: summation; relative errors grow like (steps x eps), about 1e-13, so 1e-9 leaves room.
RTOL = 1e-9


def node(script, *arguments):
    command = [compute_driver_executable()[0], "-e", script, *map(str, arguments)]
    return json.loads(subprocess.check_output(command))


def in_node(config: LiveRun) -> dict:
    options = {"initScale": config.init_scale, "stepSize": config.step_size, "every": 50}
    options |= {"anisotropy": config.anisotropy, "angle": config.angle}
    options |= {"target": list(config.target), "steps": config.steps}
    return node(SCRIPT, CORE, json.dumps(options))


def double(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


CASES = {
    "first": LiveRun(),
    "tiny": LiveRun(init_scale=1e-8, steps=1500),
    "large": LiveRun(init_scale=1.0, step_size=0.02, steps=300),
    "isotropic": LiveRun(anisotropy=1.0),
    "commuting": LiveRun(angle=0.0, anisotropy=9.0, target=(1.0, 2.5)),
    "swapped": LiveRun(angle=90.0, anisotropy=2.0),  # one mode has the correlation, one the gain
    "tied": LiveRun(angle=90.0, target=(2.0, 2.0)),
}


@pytest.mark.parametrize("name", CASES)
def test_browser_and_package_agree(name):
    config = CASES[name]
    theirs, ours = in_node(config), run_live(config)
    losses = double(theirs["run"]["losses"])
    floor = 1e-13 * float(losses[0])  # the loss is a difference of numbers of this size
    torch.testing.assert_close(losses, ours.trajectory["loss"][0], rtol=RTOL, atol=floor)
    units = double(theirs["run"]["snapshots"])
    expected = ours.trajectory["units"][0, ::50]
    largest = expected.abs().amax((1, 2))  # of each snapshot: single entries may pass through zero
    assert float(((units - expected).abs().amax((1, 2)) / largest).max()) <= RTOL
    levels, drops = (double(theirs["staircase"][name]) for name in ("levels", "drops"))
    torch.testing.assert_close(levels, ours.staircase.levels, rtol=RTOL, atol=floor)
    predicted = ours.staircase.times * torch.tensor(1 / config.init_scale).log() / config.step_size
    if config.init_scale < 1:
        predicted = ours.staircase.drop_steps(config.init_scale)
    torch.testing.assert_close(drops, predicted, rtol=RTOL, atol=1e-9)
    torch.testing.assert_close(double(theirs["start"]), start_directions(), rtol=0, atol=1e-13)
    torch.testing.assert_close(double(theirs["moments"]["yx"]), moments_of(config)[0].yx)


def axis(vectors):
    return torch.rad2deg(torch.atan2(vectors[..., 1], vectors[..., 0]))


@pytest.mark.parametrize("name", ["first", "tiny", "isotropic", "commuting", "swapped"])
def test_what_the_figures_show_of_the_map_is_that_of_the_package(name):
    theirs, live = in_node(CASES[name]), run_live(CASES[name])
    moments, teacher = moments_of(CASES[name])
    units = live.trajectory["units"][0, ::50]
    products = units[:, :, 2:].mT @ units[:, :, :2]
    # Shares in the basis of the modes; which comes first is told by the levels that the package predicts.
    gains = -2 * live.staircase.levels[:3].diff()
    basis = torch.linalg.eigh(moments.yy).eigenvectors
    found = ((basis.mT @ moments.yy @ basis).diagonal()[:, None] - gains).abs().argmin(0)
    basis = basis[:, found]
    shares = torch.einsum("ok,toi,pi,pk->tk", basis, products, moments.yx, basis) / gains
    torch.testing.assert_close(double(theirs["shares"]), shares, rtol=1e-7, atol=1e-9)
    first = basis[:, :1] @ basis[:, :1].mT @ teacher
    start, end = (axis(torch.linalg.svd(w)[2][0]) for w in (moments.yx, first))
    leading = axis(torch.linalg.svd(products)[2][:, 0])
    turn = theirs["turn"]  # axes in degrees from the start, where itself no direction leads
    distance = double(turn["angles"])[1:] - leading[1:] + start
    off = double(turn["end"]) - end + start
    assert float(((distance + 90) % 180 - 90).abs().max()) < 1e-5
    assert abs(float((off + 90) % 180 - 90)) < 1e-6


@pytest.mark.parametrize("name", ["first", "isotropic", "commuting", "swapped"])
def test_the_skipping_figure_visits_the_saddles_that_the_package_visits(name):
    moments, teacher = moments_of(CASES[name])
    values, vectors = torch.linalg.eigh(moments.xx)
    inputs = (2 * values).sqrt() * vectors
    path = skip_plateaus(
        Problem(inputs, teacher @ inputs, teacher), width=4, generator=generator(0)
    )
    frames = in_node(CASES[name])["skip"]
    visited = [0.5 * float(moments.yy.trace())]
    visited += [frame["loss"] for frame in frames if frame["kind"] == "saddle"]
    assert [frame["kind"] for frame in frames] == ["direction", "jump", "saddle"] * 2 + ["end"]
    levels = run_live(CASES[name]).staircase.levels[:3].tolist()
    assert visited == pytest.approx(levels, rel=1e-6, abs=1e-9)
    losses = [saddle.loss for saddle in path.saddles]
    assert visited == pytest.approx(losses, rel=1e-6, abs=1e-9)
    # A jump lands where the loss stops falling: s^2 / 2 kappa below, kappa the curvature along it.
    for before, after in zip(frames, frames[1:], strict=False):
        if after["kind"] == "jump":
            fall = before["loss"] - after["loss"]
            assert fall == pytest.approx(before["rate"] * before["size"] / 2, rel=1e-9)


def test_a_target_of_zero_is_skipped_in_one_jump_and_divergence_is_reported():
    frames = in_node(LiveRun(target=(2.0, 0.0)))["skip"]
    assert [frame["kind"] for frame in frames] == ["direction", "jump", "saddle", "end"]
    assert all(frame["loss"] > -1e-12 for frame in frames)
    result = in_node(LiveRun(init_scale=1.0, step_size=2.0, steps=300))["run"]
    assert len(result["losses"]) == result["diverged"] > 0


PREDICT = """const [core, widths, rule, r] = process.argv.slice(1), c = require(core);
console.log(JSON.stringify(c.predict(c.parse(widths), rule, Number(r))));"""
RULES = {"dp(1/4)": ("dp", 0.25), "dp(1/2)": ("dp", 0.5)}
RULES |= {n: (n, 0) for n in ["standard", "spectral", "mup-wide", "mup-fan-in", "mup-package"]}


WIDTHS = ["0, 1, 1/5, 1, 1/5, 1, 0", "0 2 1 2 0", "1/2, 1, 3/4, 1/2, 1/4"]


@pytest.mark.parametrize(("name", "widths"), [(n, w) for n in RULES for w in WIDTHS])
def test_exponents_agree(widths, name):
    theirs = node(PREDICT, LIVE / "orders_core.js", widths, *RULES[name])
    ours = predict_exponents(scheme(name).exponents(widths.replace(",", " ").split()))
    assert theirs.keys() == ours.keys()
    for quantity, row in ours.items():
        # None, where nothing is predicted, becomes NaN.
        got, expected = np.array(theirs[quantity], float), np.array(row, float)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12, err_msg=quantity)
