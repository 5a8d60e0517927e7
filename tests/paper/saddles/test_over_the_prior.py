"""The record over random problems is what the code gives, and the tolerances can be missed."""

import numpy as np
import pytest
import torch

from learning_dynamics.saddles.theory.staircase import predict_staircase
from paper.claims import Measurement, read_claims, verdict
from paper.ledger import RECORDED
from paper.saddles.over_the_prior import laws
from paper.saddles.over_the_prior.draws import Config, draw

CLAIMS = {c.id: c for c in read_claims(RECORDED.parents[1] / "claims.yml")}
LAWS = [law for law in vars(laws).values() if isinstance(law, Measurement)]


@pytest.fixture(scope="module")
def record():
    return laws.run()


def judged(law, result):
    return verdict(CLAIMS[law.claim], law.judge(result))


def test_the_record_is_what_the_code_gives(record):
    config = Config().quick()
    fresh = laws.compute(config)
    assert record.sizes["draw"] >= 200 and record.sizes["loss_draw"] >= 200 and len(LAWS) == 9
    for name in ("steps", "ratio", "slope", "found", "best", "grown", "power", "late"):
        old = record[name].sel({d: fresh[d] for d in fresh[name].dims if d in fresh.coords})
        old = old.transpose(*fresh[name].dims)
        # What is read late in a run has been rounded for thousands of steps.
        np.testing.assert_allclose(fresh[name].values, old.values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.claim)
def test_the_law_holds_on_every_draw(record, law):
    assert judged(law, record) != "fails"


def test_tolerances_are_missed_by_other_laws(record):
    # Gradient flow in place of the finite step, and each mode growing at its first rate all along.
    flow, alone = record.copy(deep=True), record.copy(deep=True)
    for i in range(20):
        drawn, eta, _, _ = draw(i)
        moments, count = drawn.problem.moments(), int(record.drops[i])
        p = predict_staircase(moments).exponents[:count]
        flow.exponent[i, :count] = p.numpy()
        rates = torch.linalg.svdvals(moments.yx)[:count]
        times = -np.log(np.outer(record.scale, drawn.width**0.5)) / np.log1p(eta * rates.numpy())
        alone.predicted[{"draw": i, "drop": slice(count)}] = times
    assert judged(laws.alignment, flow) == "fails"
    assert judged(laws.times, alone) == "fails"


def test_a_drop_too_many_or_a_plateau_missed_is_seen(record):
    more, off = record.copy(deep=True), record.copy(deep=True)
    more["found"] = more.found + (more.draw == 7)
    assert judged(laws.drops, more) == "fails"
    off["distance"] = off.distance + 0.02
    assert judged(laws.levels, off) == "fails"
