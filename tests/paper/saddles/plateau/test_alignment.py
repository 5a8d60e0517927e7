import torch

from paper.claims import read_claims, verdict
from paper.ledger import RECORDED
from paper.saddles.plateau import alignment, window
from paper.saddles.random_linear import gaps, problems_with_gaps

CLAIMS = {claim.id: claim for claim in read_claims(RECORDED.parents[1] / "claims.yml")}


def test_exponents_are_the_predicted_ones_at_three_escapes():
    law, *rest = (run(alignment.Config().quick()) for run in alignment.alignment.runs)
    claim = CLAIMS[alignment.alignment.claim]
    # Ties do not align, as printed; and the formula of gradient flow is told from that of steps.
    assert verdict(claim, alignment.alignment.judge(law, *rest)) == "holds-corrected"
    flow = law.flow.broadcast_like(law.predicted).transpose(*law.predicted.dims)
    assert verdict(claim, alignment.alignment.judge(law.assign(predicted=flow), *rest)) == "fails"


def test_a_fixed_direction_has_a_best_moment_and_then_stalls():
    found = window.run(window.Config().quick())
    clear = found.sel(problem=found.law > 0.5)
    assert abs(clear.best_power - clear.best_predicted).max() < 0.01
    assert abs(clear.best_power - clear.law).min() > 0.1
    # Fourteen decades of epsilon gain nothing at the escape.
    assert (clear.end[:, -1] / clear.end[:, 0] > 0.5).all()


def test_commuting_inputs_do_not_turn():
    config = window.Config(problems=3, covariance="commuting", scales=(1e-6, 1e-8, 1e-10))
    found = window.run(config)
    assert abs(found.end_power - found.law).max() < 0.03


def test_problems_have_the_gap_they_promise():
    problems = problems_with_gaps(6, least_gap=0.2)
    assert all(float(gaps(p.moments())) >= 0.2 for p in problems)
    again = problems_with_gaps(2, least_gap=0.2)
    assert torch.equal(problems[1].inputs, again[1].inputs)
