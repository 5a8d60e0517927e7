from paper.saddles import unit_wise_update as update


def test_errors_of_both_forms():
    found = update.run(update.Config(seeds=(0, 1), losses=("squared",)))
    assert max(float(e.max()) for e in found.secant.values()) < 1e-12
    assert max(float(found.printed[n].max()) for n in update.EXACT) < 1e-13
    assert min(float(found.printed[n][0, 4].median()) for n in update.CURVED) > 0.1
    assert round(found.slopes("tanh"), 2) == 2 and round(found.slopes("gelu"), 2) == 1
    # The gradient vanishes with the weights, except where sigma(0) is not zero.
    assert found.gradient_norm["sigmoid"][0] > 0.1 > found.gradient_norm["tanh"][0]
