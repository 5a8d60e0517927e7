"""Stored results: known by what they are, whole or absent, checked when read, as they were."""

import datetime
import enum
import errno
import os
from dataclasses import dataclass, make_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from learning_dynamics.files import hold
from paper.records import decode, encode, read_record, write_record
from paper.store import DamagedResult, Key, Store, canonical

KEY = Key("name", 1, canonical({"width": 4}), "module.run")
HARDLY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.differing_executors]
)


def result() -> xr.Dataset:
    """A small labelled result."""
    return xr.Dataset(
        {"loss": (("run", "step"), np.array([[1.0, np.inf], [0.5, 0.25]]), {"units": "loss"})},
        coords={"step": [0, 10]},
        attrs={"config": "{}"},
    )


def put(store: Store, key: Key, dataset: xr.Dataset) -> None:
    """Store a result as a sweep does."""
    with hold(store.path(key)):
        store.put(key, encode(dataset, {"key": key._asdict()}))


# What identifies a result


@dataclass(frozen=True)
class Config:
    width: int
    step_size: float = 0.1
    name: str | None = None


@dataclass(frozen=True)
class Other(Config):
    pass


class Color(enum.IntEnum):
    RED = 1


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


NO_KEY = [
    *(np.ones(2), torch.ones(2), np.float64(1), np.int64(1), np.str_("a"), np.bool_(True)),
    *(float("nan"), float("inf"), Config, object(), {1, 2}, {1: 2}, {"@a": 1}, b"a", 1j),
    *(Color.RED, Path("a"), datetime.date(2000, 1, 1), len, lambda: 1, range(3)),
    *(make_dataclass("Loose", ["width"])(4), type("Words", (str,), {})("a")),
]


@pytest.mark.parametrize("bad", NO_KEY, ids=lambda value: type(value).__name__)
def test_what_no_key_can_hold_is_refused_by_name(bad):
    for config, where in (
        (bad, "config"),
        (Config(bad), r"config\.width"),
        ({"a": [0, bad]}, r"config\['a'\]\[1\]"),
    ):
        with pytest.raises(ValueError, match=rf"^{where} = .*allowed are str, bool"):
            canonical(config)


# What comes back

# The conventions of netCDF give most of these words a meaning.
MEANT = "_FillValue missing_value scale_factor units calendar dtype coordinates _Unsigned bounds"
MEANT = [*MEANT.split(), "learning_dynamics", "epochs since start", "days since 2000-01-01"]
WORDS = st.text() | st.sampled_from(MEANT)
JSON = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
)
ATTRIBUTES = st.dictionaries(WORDS, JSON, max_size=3)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)
TYPES = st.sampled_from(["b1", *(f"{k}{n}" for k in "iu" for n in (1, 2, 4, 8)), "f4", "f8", "<U3"])
ENCODING = st.sampled_from([{}, {"dtype": "int16", "scale_factor": 0.01, "_FillValue": -1}])


@st.composite
def datasets(draw):
    """Datasets of every type, scalars and empty dimensions, with attributes of every sort."""
    sizes = {"run": draw(st.integers(0, 3)), "step": draw(st.integers(0, 2)), "a b": 1}

    def variable(dims):
        dtype = np.dtype(draw(TYPES))
        shape, inner = tuple(sizes[d] for d in dims), TEXT if dtype.kind == "U" else None
        return dims, draw(arrays.arrays(dtype, shape, elements=inner)), draw(ATTRIBUTES)

    dims = st.lists(st.sampled_from(sorted(sizes)), unique=True, max_size=3).map(tuple)
    names = draw(st.sets(st.sampled_from(["loss", "loss of a", "é", "time"])))
    data = {name: variable(draw(dims)) for name in names}
    coords = {d: variable((d,)) for d in draw(st.sets(st.sampled_from(sorted(sizes))))}
    coords |= {"of it": variable(draw(dims))} if draw(st.booleans()) else {}
    dataset = xr.Dataset(data, coords, draw(ATTRIBUTES))
    for v in dataset.variables.values():
        v.encoding = draw(ENCODING)
    return dataset


@HARDLY
@given(datasets())
def test_a_dataset_comes_back_as_it_was(dataset):
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
        (one([1], array=np.ones(2)), r"variable 'a'.*attribute 'array' = array"),
        (one([1], number=np.float64(1)), r"variable 'a'.*attribute 'number' = np.float64"),
        (one([1], pair=(1, 2)), r"variable 'a'.*attribute 'pair' = \(1, 2\)"),
        (one([1]).assign_attrs({1: 2}), "attribute 1 = 2"),
        (one([1]).rename(a="a/b"), "variable 'a/b'"),
        (one([1]).rename(a=1), "variable 1 "),
        (one([1]).assign_coords(x=[1]).expand_dims(y=[0]).stack(z=("x", "y")), "variable 'z'"),
        (xr.Dataset(coords={"x": [1, 2]}).drop_indexes("x"), "variable 'x'.*index"),
        (xr.Dataset(coords={"q": ("x", [1, 2])}).set_xindex("q"), "variable 'q'.*index"),
        (one([1]).a, "a result is an xarray.Dataset, not"),
    ],
)
def test_what_would_not_come_back_is_refused_by_name(bad, named, as_users_run):
    with pytest.raises(ValueError, match=named):
        encode(bad)


@HARDLY
@given(st.data())
def test_every_truncation_and_every_changed_byte_is_seen(data):
    whole = encode(result())
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ValueError):
        decode(whole[:cut])
    # the padding of the first block carries nothing, but must stay zero all the same
    where, flip = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    with pytest.raises(ValueError):
        decode(whole[:where] + bytes([whole[where] ^ flip]) + whole[where + 1 :])
    with pytest.raises(ValueError):
        decode(whole + b"\0")


def test_records_are_plain_netcdf(tmp_path):
    path = write_record("small", result(), folder=tmp_path)
    xr.testing.assert_identical(read_record("small", folder=tmp_path), result())
    with xr.open_dataset(path, engine="h5netcdf") as other:
        assert other.loss.shape == (2, 2)
    with pytest.raises(ValueError, match="there are small"):
        read_record("other", folder=tmp_path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match="'small' is damaged"):
        read_record("small", folder=tmp_path)


# The folder


def test_a_store_finds_by_key(tmp_path):
    store = Store(tmp_path / "s")
    assert store.get(KEY) is None
    put(store, KEY, result())
    xr.testing.assert_identical(store.get(KEY), result())
    for other in (KEY._replace(name="b"), KEY._replace(version=2), KEY._replace(config="5")):
        assert store.get(other) is None
    with pytest.raises(ValueError, match="holds a result of module.run; other.run needs another"):
        store.get(KEY._replace(function="other.run"))


@pytest.mark.parametrize("harm", ["cut", "swapped", "no key"])
def test_damage_is_told_and_set_aside_by_who_holds_the_lock(tmp_path, harm):
    store, other = Store(tmp_path), KEY._replace(config="5")
    put(store, KEY, result())
    put(store, other, result() * 2)
    whole = {"cut": store.path(KEY).read_bytes()[:-7], "swapped": store.path(other).read_bytes()}
    store.path(KEY).write_bytes(whole.get(harm, encode(result())))
    message = r"is damaged: \d+ bytes where \d+ were" if harm == "cut" else "holds another result"
    with pytest.warns(DamagedResult, match=message):
        assert store.get(KEY) is None
    assert store.path(KEY).exists()
    with pytest.warns(DamagedResult), hold(store.path(KEY)):
        assert store.get(KEY, set_aside=True) is None
    assert [p.stem for p in tmp_path.glob("*.damaged")] == [store.path(KEY).stem]
    assert store.get(KEY) is None


def refusing(code):
    def refuse(*_):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    return refuse


@pytest.mark.parametrize("code", ["EMFILE", "ESTALE", "EACCES", "EIO"])
def test_an_error_of_the_system_is_named_and_is_no_damage(tmp_path, monkeypatch, code):
    store = Store(tmp_path)
    put(store, KEY, result())
    for place, name, doing, act in (
        (Path, "read_bytes", "read", lambda: store.get(KEY)),
        (os, "fsync", "write", lambda: put(store, KEY, result() * 2)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, refusing(code))
            with pytest.raises(OSError, match=rf"cannot {doing}: .*{store.path(KEY)}") as told:
                act()
            assert told.value.errno == getattr(errno, code)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == ["", ".nc"]  # no .damaged, no .part
    xr.testing.assert_identical(store.get(KEY), result())


@pytest.mark.parametrize("code", ["ENOSYS", "EOPNOTSUPP", "ENOLCK"])
def test_a_filesystem_without_locks_is_reported_as_that(tmp_path, monkeypatch, code):
    monkeypatch.setattr("fcntl.flock", refusing(code))
    with pytest.raises(OSError, match="cannot lock: this filesystem has no locks: .*locks/name-v1"):
        put(Store(tmp_path), KEY, result())


@pytest.mark.parametrize("link", ["the lock", "its folder", None])
def test_no_lock_is_taken_through_a_symbolic_link(tmp_path, link):
    """And a lock that stood there, or was left by a killed process, is no data."""
    store, elsewhere = Store(tmp_path / "s"), tmp_path / "elsewhere"
    lock = store.folder / "locks" / store.path(KEY).name
    victim = lock if link is None else elsewhere / lock.name
    for folder in (elsewhere, store.folder if link == "its folder" else lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    victim.write_text("precious")
    if link == "the lock":
        lock.symlink_to(victim)
    elif link:
        lock.parent.symlink_to(elsewhere)
    if link:
        with pytest.raises(OSError, match="cannot lock: it or its folder is a symbolic link"):
            put(store, KEY, result())
    else:
        put(store, KEY, result())
    assert victim.read_text() == "precious"


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    store = Store(tmp_path)
    keys = KEY, KEY._replace(config="5")
    own, foreign = (store.path(k).with_suffix(".nc.0123.part") for k in keys)
    own.write_bytes(b"half")
    foreign.write_bytes(b"another sweep is writing this one")
    with hold(store.path(KEY)):
        assert not own.exists() and foreign.exists()
