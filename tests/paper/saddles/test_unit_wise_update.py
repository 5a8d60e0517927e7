from paper.saddles import unit_wise_update as update


def test_errors_of_both_forms():
    found = update.run(update.Config().quick())
    assert found.error.sel(form="secant").max() < 1e-12
    assert found.error.sel(form="printed", activation=update.EXACT).max() < 1e-13
    assert (found.printed.sel(activation=update.CURVED, scale=1.0) > 0.1).all()
    assert round(float(found.slope.sel(activation="tanh")), 2) == 2
    assert round(float(found.slope.sel(activation="gelu")), 2) == 1
    # The gradient vanishes with the weights, except where sigma(0) is not zero.
    smallest = found.gradient.isel(scale=0)
    assert smallest.sel(activation="sigmoid") > 0.1 > smallest.sel(activation="tanh")
