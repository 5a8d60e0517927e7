"""Stored results: known by what they are, whole or absent, checked when read, as they were."""

import enum
import errno
import functools
import os
from dataclasses import dataclass, make_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from xarray.testing.strategies import variables

from learning_dynamics.files import hold
from paper.records import decode, encode, read_record, write_record
from paper.store import DamagedResult, Key, Store, canonical

KEY = Key("name", 1, canonical({"width": 4}), "module.run")
HARDLY = settings(max_examples=40)
RESULT = xr.Dataset(
    {"loss": (("run", "step"), np.array([[1.0, np.inf], [0.5, 0.25]]), {"units": "loss"})},
    coords={"step": [0, 10]},
    attrs={"config": "{}"},
)


def put(store: Store, key: Key, dataset: xr.Dataset) -> None:
    """Store a result as a sweep does."""
    with hold(store.path(key)):
        store.put(key, encode(dataset, {"key": key._asdict()}))


@dataclass(frozen=True)
class Config:
    width: int
    step_size: float = 0.1
    name: str | None = None


@dataclass(frozen=True)
class Other(Config):
    pass


#: Few values, so that two draws often look alike.
PLAIN = [None, True, 0, 1, 0.0, -0.0, 1.0, 5e-324, 0.1, 0.1 + 2e-17, "", "1", "None", "null"]
PLAIN += ["\ud800", Config(1), Other(1), Config(True), Config(1, 1), Config(1, name="1"), {}, []]
PLAIN += [{"width": 1}]
CONFIGS = st.recursive(
    st.sampled_from(PLAIN),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["", "1", "width", "é"]), inner, max_size=2)
    ),
    max_leaves=3,
)


def told(value: object) -> object:
    """Equal exactly for values that are the same, types and the sign of zero included."""
    if isinstance(value, dict):
        return "dict", frozenset((k, told(v)) for k, v in value.items())
    return ("list", *map(told, value)) if isinstance(value, list) else repr(value)


@HARDLY
@given(CONFIGS, CONFIGS)
def test_configurations_are_told_apart(one, other):
    assert (canonical(one) == canonical(other)) == (told(one) == told(other))


NO_KEY = [np.ones(2), torch.ones(2), np.float64(1), np.str_("a"), float("nan"), object(), {1, 2}]
NO_KEY += [{1: 2}, {"@a": 1}, b"a", Config, enum.IntEnum("Color", "RED").RED, Path("a"), len]
NO_KEY += [make_dataclass("Loose", ["width"])(4), type("Words", (str,), {})("a")]


@pytest.mark.parametrize("bad", NO_KEY, ids=lambda value: type(value).__name__)
def test_what_no_key_can_hold_is_refused_by_name(bad):
    nested = {r"config\['a'\]\[1\]": {"a": [0, bad]}, r"config\.width": Config(bad)}
    for where, config in (nested | {"config": bad}).items():
        with pytest.raises(ValueError, match=rf"^{where} = .*allowed are str, bool"):
            canonical(config)


# The conventions of netCDF give most of these words a meaning.
MEANT = "_FillValue missing_value scale_factor units calendar dtype coordinates _Unsigned bounds"
MEANT = [*MEANT.split(), "learning_dynamics", "epochs since start", "days since 2000-01-01"]
WORDS = st.text() | st.sampled_from(MEANT)
JSON = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
)
ATTRS = st.dictionaries(WORDS, JSON, max_size=3)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)
TYPES = st.sampled_from(["b1", *(f"{k}{n}" for k in "iu" for n in (1, 2, 4, 8)), "f4", "f8", "<U3"])
ENCODING = st.sampled_from([{}, {"dtype": "int16", "scale_factor": 0.01, "_FillValue": -1}])
SIZES = {"run": 2, "a b": 1}


def numbers(*, shape, dtype):
    return arrays.arrays(dtype, shape, elements=TEXT if dtype.kind == "U" else None)


def variable(*dims):
    """Scalars, empty dimensions and all between, of every type, with attributes of every sort."""
    dims = st.sampled_from(dims or ({}, SIZES, {"step": 0, **SIZES}))
    return variables(array_strategy_fn=numbers, dims=dims, dtype=TYPES.map(np.dtype), attrs=ATTRS)


NAMES = st.sampled_from(["loss", "loss of a", "é", "time"])
COORDINATES = st.fixed_dictionaries(
    {}, optional={"run": variable({"run": 2}), "a b": variable({"a b": 1}), "of it": variable()}
)


@HARDLY
@given(st.dictionaries(NAMES, variable()), COORDINATES, ATTRS, ENCODING)
def test_a_dataset_comes_back_as_it_was(data, coordinates, attributes, encoding):
    dataset = xr.Dataset(data, coordinates, attributes)
    for v in dataset.variables.values():
        v.encoding = encoding

    def parts(d):  # repr and bytes show types, NaN and -0.0
        kept = {
            n: (v.dims, v.dtype, v.shape, v.values.tobytes(), repr(v.attrs))
            for n, v in d.variables.items()
        }
        return kept, set(d.coords), set(d.xindexes), repr(d.attrs)

    back = decode(encode(dataset))
    assert parts(back) == parts(dataset)
    assert all(v.encoding == {} for v in back.variables.values())


def one(values: object, **attributes: object) -> xr.Dataset:
    return xr.Dataset({"a": ("x", values, attributes)})


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (one(np.array(["a", 1], object)), r"variable 'a' \(object\)"),
        (one(np.array(["2000"], "M8[s]")), r"variable 'a' \(datetime64\[s\]\)"),
        (one(["a\0b"]), "variable 'a'.*NULL"),
        (one([1], pair=(1, 2)), r"variable 'a'.*attribute 'pair' = \(1, 2\)"),
        (one([1]).assign_attrs({1: 2}), "attribute 1 = 2"),
        (one([1]).rename(a="a/b"), "variable 'a/b'"),
        (one([1]).assign_coords(x=[1]).expand_dims(y=[0]).stack(z=("x", "y")), "variable 'z'"),
        (xr.Dataset(coords={"x": [1, 2]}).drop_indexes("x"), "variable 'x'.*index"),
        (one([1]).a, "a result is an xarray.Dataset, not"),
    ],
)
def test_what_would_not_come_back_is_refused_by_name(bad, named, as_users_run):
    with pytest.raises(ValueError, match=named):
        encode(bad)


@HARDLY
@given(st.data())
def test_every_truncation_and_every_changed_byte_is_seen(data):
    whole = encode(RESULT)
    where, flip = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    changed = whole[:where] + bytes([whole[where] ^ flip]) + whole[where + 1 :]
    for harmed in (whole[:where], changed, whole + b"\0"):
        with pytest.raises(ValueError):
            decode(harmed)


def test_records_are_plain_netcdf(tmp_path):
    path = write_record("small", RESULT, folder=tmp_path)
    xr.testing.assert_identical(read_record("small", folder=tmp_path), RESULT)
    with xr.open_dataset(path, engine="h5netcdf") as other:
        assert other.loss.shape == (2, 2)
    path.write_bytes(path.read_bytes()[:600])
    for name, told in (("other", "there are small"), ("small", "'small' is damaged")):
        with pytest.raises(ValueError, match=told):
            read_record(name, folder=tmp_path)


def test_a_store_finds_by_key(tmp_path):
    store = Store(tmp_path / "s")
    assert store.get(KEY) is None
    put(store, KEY, RESULT)
    xr.testing.assert_identical(store.get(KEY), RESULT)
    for other in (KEY._replace(name="b"), KEY._replace(version=2), KEY._replace(config="5")):
        assert store.get(other) is None
    with pytest.raises(ValueError, match="holds a result of module.run; other.run needs another"):
        store.get(KEY._replace(function="other.run"))


def refuse(code, *_):
    raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))


@pytest.mark.parametrize("code", ["EMFILE", "ESTALE"])
def test_an_error_of_the_system_is_named_and_is_no_damage(tmp_path, monkeypatch, code):
    store, unlockable = Store(tmp_path), "lock: this filesystem has no locks"
    put(store, KEY, RESULT)
    for place, number, doing, act in (
        ("pathlib.Path.read_bytes", code, "read", lambda: store.get(KEY)),
        ("os.fsync", code, "write", lambda: put(store, KEY, RESULT * 2)),
        ("fcntl.flock", "ENOLCK", unlockable, lambda: put(store, KEY, RESULT * 2)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, functools.partial(refuse, number))
            with pytest.raises(OSError, match=rf"cannot {doing}: .*{store.path(KEY).name}") as told:
                act()
            assert told.value.errno == getattr(errno, number)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == ["", ".nc"]  # no .damaged, no .part
    xr.testing.assert_identical(store.get(KEY), RESULT)


def test_no_lock_is_taken_through_a_symbolic_link(tmp_path):
    name, victim = Store("").path(KEY).name, tmp_path / "elsewhere" / Store("").path(KEY).name
    victim.parent.mkdir()
    victim.write_text("precious")
    for link, to in (("lock/locks/" + name, victim), ("folder/locks", victim.parent)):
        (tmp_path / link).parent.mkdir(parents=True)
        (tmp_path / link).symlink_to(to)
        with pytest.raises(OSError, match="cannot lock: it or its folder is a symbolic link"):
            put(Store(tmp_path / link.split("/")[0]), KEY, RESULT)
    assert victim.read_text() == "precious"


def test_damage_is_set_aside_by_who_holds_the_lock_and_leftovers_of_a_killed_writer_go(tmp_path):
    store, path = Store(tmp_path), Store(tmp_path).path(KEY)
    put(store, KEY, RESULT)
    path.write_bytes(path.read_bytes()[:-7])
    other = store.path(KEY._replace(config="5"))
    own, foreign = (p.with_suffix(".nc.0123.part") for p in (path, other))
    own.write_bytes(b"half")
    foreign.write_bytes(b"another sweep is writing this one")
    with pytest.warns(DamagedResult, match=r"is damaged: \d+ bytes where \d+ were"):
        assert store.get(KEY) is None and path.exists()
    with pytest.warns(DamagedResult), hold(path):
        assert store.get(KEY, set_aside=True) is None
    assert path.with_suffix(".damaged").exists() and store.get(KEY) is None
    assert not own.exists() and foreign.exists()
