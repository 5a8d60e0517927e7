"""The simulations' building blocks; the claims themselves are re-measured by the ledger's test."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from learning_dynamics.data.images import CIFAR_FOLDER, Images, load
from paper.records import RESULTS, read_record
from paper.scales.learning_rates import richness as simulations_richness
from paper.scales.learning_rates import transfer
from paper.scales.learning_rates.plateau import Plateau, plateau_exponent, plateau_lengths
from paper.scales.limits.fluctuations import slope_through_origin
from paper.scales.simulations.compute import main
from paper.scales.simulations.settings import bottleneck_widths, grid, training_run
from paper.training_runs import TRAINING, run, run_many

SMALL = Images(source="sklearn", classes=(3, 8), pool=1)


def small_run(scheme: str = "dp(1/2)", **options):
    """Widths 80 / 19, 20 steps."""
    options = {"step_size": 0.3, "seed": 0, "steps": 20, "images": SMALL} | options
    return training_run(scheme, bottleneck_widths(80, 64), **options)


def test_widths_of_the_two_families():
    assert bottleneck_widths(1024, 784) == (784, 1024, 32, 1024, 32, 1024, 2)
    assert bottleneck_widths(10_000, 3072, prefactor=150)[2] == 946


@pytest.mark.parametrize("source", ["sklearn", "synthetic"])
def test_images_have_the_thesis_level(source):
    train, test = load(Images(source=source, classes=(3, 8), pool=2))
    assert float(train.inputs.square().mean()) == pytest.approx(0.31, rel=1e-4)
    assert train.inputs.dtype == torch.float32 and float(train.inputs.min()) >= 0
    assert train.targets.sum(0).eq(1).all() and test.inputs.shape[0] == train.inputs.shape[0]
    few, _ = load(Images(source=source, classes=(3, 8), pool=2, train=5))
    assert few.inputs.shape[1] == 10 and few.targets.sum(1).tolist() == [5, 5]


def test_wrong_images_are_named(monkeypatch):
    monkeypatch.delenv(CIFAR_FOLDER, raising=False)
    for images, message in (
        (Images(source="cifar10", classes=("cat", "dog")), f"set {CIFAR_FOLDER}"),
        (Images(source="sklearn", pool=3), "pool = 3: must divide"),
        (Images(source="imagenet"), "source = 'imagenet'"),
        (Images(source="sklearn", train=10**6), "a class has"),
    ):
        with pytest.raises(ValueError, match=message):
            load(images)


def test_batched_runs_equal_runs_alone_and_spectral_equals_wide_mup():
    base = small_run(records=(0, 20))
    both = run_many(grid(base, (0.1, 0.3), (0, 1)))
    for config, batched in zip(grid(base, (0.1, 0.3), (0, 1)), both, strict=True):
        alone = float(run(config).train_loss[-1])
        assert alone == pytest.approx(float(batched.train_loss[-1]), rel=1e-4)
    # n_L = 2 makes Spectral's output sqrt(2) larger: the same run as muP-wide's, so scaled
    spectral, wide = small_run("spectral"), small_run("mup-wide")
    assert spectral.init_stds == pytest.approx(wide.init_stds)
    assert np.prod(spectral.multipliers) == pytest.approx(2**0.5 * np.prod(wide.multipliers))


def test_a_scheme_with_layer_rates_becomes_one_with_multipliers():
    package = small_run("mup-package")
    assert package.multipliers[1] == pytest.approx((19 / 80) ** 0.5)


def test_double_precision_starts_from_the_same_draws():
    single, double = (run(small_run(dtype=d)) for d in ("float32", "float64"))
    assert single.train_loss.dtype == "float32" and double.train_loss.dtype == "float64"
    np.testing.assert_allclose(single.train_loss, double.train_loss, rtol=1e-5)
    assert (single.train_loss != double.train_loss).any()
    with pytest.raises(ValueError, match="dtype = 'float16': allowed are float32, float64"):
        run(small_run(dtype="float16"))


def test_sweep_stores_runs_and_reads_them_back(tmp_path):
    small = {"widths": (24, 48), "seeds": (0, 1), "steps": 6, "spacing": 1.0}
    config = transfer.Transfer(schemes=("dp(1/2)",), images=SMALL, **small)
    first = transfer.learning_rate_sweep(config, store=tmp_path, progress=False)
    assert first.train_loss.dims == ("scheme", "width", "octave", "seed")
    assert len([*tmp_path.glob("*.nc")]) == 2 * 5 * 2
    again = transfer.learning_rate_sweep(config, store=tmp_path, progress=False)
    xr.testing.assert_equal(first.train_loss, again.train_loss)


def test_the_records_hold_five_values_of_r():
    """Every r at three widths: the same seeds, at least nine step sizes, none of them missing."""
    record = simulations_richness.read()
    assert list(record.scheme.values) == list(simulations_richness.FAMILY)
    assert record.sizes["width"] == 3 and record.sizes["seed"] == 5
    for scheme in simulations_richness.FAMILY:
        tried = record.train_loss.sel(scheme=scheme).notnull()
        assert int(tried.any(["width", "seed"]).sum()) >= 9
        assert bool((tried.all(["width", "seed"]) == tried.any(["width", "seed"])).all())


def test_best_step_size():
    x = np.arange(-3.0, 4.0)
    assert transfer.best_step_size(x, np.exp((x - 0.3) ** 2)) == pytest.approx(0.3)
    diverged = np.where(x > 0, np.inf, np.exp((x - 0.3) ** 2))
    assert transfer.best_step_size(x, diverged) == 0.0  # the last finite one
    assert transfer.best_step_size(x, np.where(x < 0, np.nan, np.exp(x))) == 0.0


def planted(shift: float, noise: float) -> xr.Dataset:
    """Parabolas whose optimum moves by `shift` octaves per doubling."""
    widths, octaves = np.array([256, 512, 1024, 2048]), np.arange(-8.0, 3.0)
    best = -2 + shift * np.log2(widths / 256)
    wobble = noise * np.random.default_rng(0).standard_normal((4, 1, 5))
    log_loss = 0.3 * (octaves[:, None] - best[:, None, None] - wobble) ** 2
    return xr.Dataset(
        {"train_loss": (("scheme", "width", "octave", "seed"), np.exp(log_loss)[None])},
        coords={"scheme": ["dp(1/2)"], "width": widths, "octave": octaves, "seed": range(5)},
    )


@pytest.mark.parametrize("shift", [0.0, -0.5, -1.0])
def test_the_shift_per_doubling_is_found_and_its_interval_covers_it(shift):
    found = transfer.shift_per_doubling(planted(shift, 0.2), "dp(1/2)", resamples=200)
    assert found["low"] <= shift <= found["high"] and found["high"] - found["low"] < 0.4
    exact = transfer.shift_per_doubling(planted(shift, 0.0), "dp(1/2)", resamples=20)
    assert exact["shift"] == pytest.approx(shift, abs=1e-9)


def test_widths_that_were_hardly_swept_do_not_count():
    result = planted(-1.0, 0.0)
    result.train_loss[0, 1, 2:] = np.nan
    assert transfer.swept_widths(result, "dp(1/2)") == [256, 1024, 2048]
    assert transfer.shift_per_doubling(result, "dp(1/2)", resamples=5)["shift"] == pytest.approx(-1)
    with pytest.raises(ValueError, match="1 widths were swept, two needed"):
        transfer.shift_per_doubling(result.sel(width=[256]), "dp(1/2)")


def test_a_run_that_stays_on_the_plateau_is_not_dropped():
    tiny = {"widths": (16, 32, 64), "seeds": (0, 1), "longest": 2}
    short = plateau_lengths(Plateau(images=replace(SMALL, train=8), **tiny))
    with pytest.raises(ValueError, match="never left the plateau"):
        plateau_exponent(short)


def test_slope_through_the_origin_has_the_right_interval():
    rng = np.random.default_rng(1)
    x, hits = np.array([0.2, 0.5, 1.0]), 0
    for _ in range(200):
        blocks = 2 * x[:, None] + 0.3 * rng.standard_normal((3, 20))
        y = blocks.mean(1)
        without = (20 * y[:, None] - blocks) / 19
        slope, half = slope_through_origin(x, y, without)
        hits += abs(slope - 2) <= half
    assert 178 <= hits <= 199


def test_the_command_writes_a_record(tmp_path, monkeypatch, capsys):
    from paper.scales.simulations import compute as records

    tiny = Plateau(widths=(16, 24, 32), seeds=(0,), longest=5, images=replace(SMALL, train=8))
    monkeypatch.setitem(records.RECORDS, "simulations-plateau", (plateau_lengths, tiny))
    main(f"simulations-plateau --seeds 2 --store {tmp_path}/runs --folder {tmp_path}".split())
    found = read_record("simulations-plateau", folder=tmp_path)
    assert found.sizes["seed"] == 2 and found.attrs["torch"]
    assert found.attrs["version"] == TRAINING.version
    assert "written to simulations-plateau.nc" in capsys.readouterr().out


@pytest.mark.parametrize("name", [p.stem for p in sorted(RESULTS.glob("simulations-*.nc"))])
def test_committed_records_are_whole_and_say_where_they_come_from(name):
    attributes = read_record(name).attrs
    assert {"config", "command", "torch", "machine"} <= set(attributes)
