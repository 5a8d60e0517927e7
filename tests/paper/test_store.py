"""Stored results: whole or absent, checked when read."""

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paper.records import read_record, write_record
from paper.store import DamagedResult, Store, decode, encode


def result() -> xr.Dataset:
    """A small labelled result."""
    return xr.Dataset(
        {"loss": (("run", "step"), np.array([[1.0, np.inf], [0.5, 0.25]]), {"units": "loss"})},
        coords={"step": [0, 10]},
        attrs={"config": "{}"},
    )


def test_comes_back_as_it_was(tmp_path):
    store = Store(tmp_path)
    store.put("a-1", result())
    xr.testing.assert_identical(store.get("a-1"), result())
    assert "a-1" in store and store.keys() == ["a-1"]
    assert store.get("b") is None and "b" not in store


def test_is_plain_netcdf(tmp_path):
    Store(tmp_path).put("a", result())
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as other:
        assert other.loss.shape == (2, 2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(st.data())
def test_every_truncation_and_every_changed_byte_is_seen(data):
    whole = encode(result())
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ValueError):
        decode(whole[:cut])
    # the padding of the first block carries nothing, but must stay zero all the same
    where = data.draw(st.integers(0, len(whole) - 1))
    flip = data.draw(st.integers(1, 255))
    with pytest.raises(ValueError):
        decode(whole[:where] + bytes([whole[where] ^ flip]) + whole[where + 1 :])
    with pytest.raises(ValueError):
        decode(whole + b"\0")


def test_damaged_result_is_set_aside_with_a_message(tmp_path):
    store = Store(tmp_path)
    store.put("a", result())
    store.path("a").write_bytes(store.path("a").read_bytes()[:-7])
    with pytest.warns(DamagedResult, match=r"a\.nc is damaged \(\d+ bytes where \d+ were"):
        assert store.get("a") is None
    assert (tmp_path / "a.damaged").exists() and "a" not in store
    store.put("a", result())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.get("a") is not None


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    store = Store(tmp_path)
    (tmp_path / "a.nc.0123.part").write_bytes(b"half")
    (tmp_path / "b.nc.0123.part").write_bytes(b"another sweep is writing this one")
    with store.lock("a"):
        assert not (tmp_path / "a.nc.0123.part").exists()
    assert (tmp_path / "b.nc.0123.part").exists()
    assert store.keys() == []


def test_a_failed_write_leaves_the_old_result(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.put("a", result())

    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        store.put("a", result() * 2)
    monkeypatch.undo()
    xr.testing.assert_identical(store.get("a"), result())
    assert not list(tmp_path.glob("*.part"))


def test_keys_stay_in_the_folder(tmp_path):
    for bad in ("../a", "", "a b", "a/b"):
        with pytest.raises(ValueError, match="allowed are letters"):
            Store(tmp_path).path(bad)


def test_records(tmp_path):
    path = write_record("small", result(), folder=tmp_path)
    xr.testing.assert_identical(read_record("small", folder=tmp_path), result())
    with pytest.raises(ValueError, match="there are small"):
        read_record("other", folder=tmp_path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match="'small' is damaged"):
        read_record("small", folder=tmp_path)
