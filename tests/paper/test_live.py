"""The live figures compute what the package computes.

The JavaScript runs in the Node.js that the playwright package carries: no browser is needed.
"""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from playwright._impl._driver import compute_driver_executable

from learning_dynamics.scales.orders import predict_exponents
from learning_dynamics.scales.parametrizations import scheme
from paper.live import LiveRun, moments_of, run_live, start_directions

LIVE = Path(__file__).parents[2] / "_static/live"
CORE = LIVE / "saddles_core.js"
SCRIPT = """
const core = require(process.argv[1]);
const o = JSON.parse(process.argv[2]);
console.log(JSON.stringify({
  run: core.train(o), staircase: core.staircase(o), moments: core.moments(o), start: core.start(),
}));
"""

#: Rounding only: both sides run the same recursion in double precision, in another order of
#: summation; relative errors grow like (steps x eps), about 1e-13, so 1e-9 leaves room.
RTOL = 1e-9


def in_node(config: LiveRun) -> dict:
    node = compute_driver_executable()[0]
    options = {
        "initScale": config.init_scale,
        "stepSize": config.step_size,
        "anisotropy": config.anisotropy,
        "angle": config.angle,
        "target": list(config.target),
        "steps": config.steps,
        "every": 50,
    }
    done = subprocess.run(
        [node, "-e", SCRIPT, str(CORE), json.dumps(options)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "config",
    [
        LiveRun(),
        LiveRun(init_scale=1e-8, steps=1500),
        LiveRun(init_scale=1.0, step_size=0.02, steps=300),
        LiveRun(anisotropy=1.0),
        LiveRun(angle=0.0, anisotropy=9.0, target=(1.0, 2.5)),
        LiveRun(angle=90.0, target=(2.0, 2.0)),
    ],
    ids=["first", "tiny", "large", "isotropic", "commuting", "tied"],
)
def test_browser_and_package_agree(config):
    theirs, ours = in_node(config), run_live(config)
    losses = torch.tensor(theirs["run"]["losses"], dtype=torch.float64)
    floor = 1e-13 * float(losses[0])  # the loss is a difference of numbers of this size
    torch.testing.assert_close(losses, ours.trajectory["loss"][0], rtol=RTOL, atol=floor)
    units = torch.tensor(theirs["run"]["snapshots"], dtype=torch.float64)
    expected = ours.trajectory["units"][0, ::50]
    largest = expected.abs().amax((1, 2))  # of each snapshot: single entries may pass through zero
    assert float(((units - expected).abs().amax((1, 2)) / largest).max()) <= RTOL
    torch.testing.assert_close(
        torch.tensor(theirs["staircase"]["levels"], dtype=torch.float64),
        ours.staircase.levels,
        rtol=RTOL,
        atol=floor,
    )
    drops = torch.tensor(theirs["staircase"]["drops"], dtype=torch.float64)
    predicted = ours.staircase.times * torch.tensor(1 / config.init_scale).log() / config.step_size
    if config.init_scale < 1:
        predicted = ours.staircase.drop_steps(config.init_scale)
    torch.testing.assert_close(drops, predicted, rtol=RTOL, atol=1e-9)
    torch.testing.assert_close(
        torch.tensor(theirs["start"], dtype=torch.float64), start_directions(), rtol=0, atol=1e-13
    )
    torch.testing.assert_close(
        torch.tensor(theirs["moments"]["yx"], dtype=torch.float64), moments_of(config)[0].yx
    )


def test_divergence_is_reported():
    result = in_node(LiveRun(init_scale=1.0, step_size=2.0, steps=300))["run"]
    assert result["diverged"] > 0
    assert len(result["losses"]) == result["diverged"]


def exponents_in_node(widths: str, rule: str, r: float) -> dict:
    script = (
        "const c = require(process.argv[1]);"
        "console.log(JSON.stringify(c.predict(c.parse(process.argv[2]), process.argv[3], "
        "Number(process.argv[4]))));"
    )
    done = subprocess.run(
        [
            compute_driver_executable()[0],
            "-e",
            script,
            str(LIVE / "orders_core.js"),
            widths,
            rule,
            str(r),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "widths", ["0, 1, 1/5, 1, 1/5, 1, 0", "0 2 1 2 0", "1/2, 1, 3/4, 1/2, 1/4"]
)
@pytest.mark.parametrize(
    ("rule", "r", "name"),
    [
        ("dp", 0.25, "dp(1/4)"),
        ("dp", 0.5, "dp(1/2)"),
        ("standard", 0, "standard"),
        ("spectral", 0, "spectral"),
        ("mup-wide", 0, "mup-wide"),
        ("mup-fan-in", 0, "mup-fan-in"),
        ("mup-package", 0, "mup-package"),
    ],
)
def test_exponents_agree(widths, rule, r, name):
    theirs = exponents_in_node(widths, rule, r)
    ours = predict_exponents(scheme(name).exponents(widths.replace(",", " ").split()))
    assert theirs.keys() == ours.keys()
    for quantity, row in ours.items():
        expected = [None if v is None else float(v) for v in row]
        got = [v if v is None else v + 0.0 for v in theirs[quantity]]
        assert [v is None for v in got] == [v is None for v in expected]
        assert [v for v in got if v is not None] == pytest.approx(
            [v for v in expected if v is not None], rel=0, abs=1e-12
        ), quantity
