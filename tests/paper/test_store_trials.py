"""Kills, damage and rival sweeps in numbers, for the Reproducibility page: runs lost must be 0."""

import os
import random
import signal
import time
import warnings

import pytest
from audit_record import note
from counting import ONE_BY_ONE, Counted, lines, start, wait_for

from paper.store import DamagedResult, Store
from paper.sweep import sweep

pytestmark = pytest.mark.audit


def squares(results) -> list[int]:
    return [int(r.square[-1]) for r in results]


def test_kills(tmp_path):
    """kill -9 at random moments of a sweep that does little but write."""
    log, store, kills, per_kill = tmp_path / "log", Store(tmp_path / "s"), 20, 40
    count, kept, lost, stream = kills * per_kill, {}, 0, random.Random(0)
    for _ in range(kills):
        done = len(kept)
        process = start(store.folder, log, count, 0.0)
        wait_for(lambda done=done: len(store.keys()) > done or process.poll() is not None)
        time.sleep(0.2 * stream.random())
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = {k: store.path(k).read_bytes() for k in store.keys()}
        lost += sum(now.get(k) != data for k, data in kept.items())
        kept = now
        if len(kept) == count:
            break
    results = sweep(
        ONE_BY_ONE, [Counted(i, str(log)) for i in range(count)], store=store, progress=False
    )
    assert squares(results) == [i * i for i in range(count)]
    lost += sum(store.path(k).read_bytes() != data for k, data in kept.items())
    repeated = len(lines(log)) - count
    note("sweeps killed", {"kills": kills, "runs": count, "lost": lost, "repeated": repeated})
    assert lost == 0
    assert 0 <= repeated <= kills  # at most the run at hand


def test_damage(tmp_path):
    """A result with one changed byte, or cut short, is noticed and computed again."""
    log, store, stream, trials = tmp_path / "log", Store(tmp_path / "s"), random.Random(1), 200
    config = Counted(30, str(log))
    sweep(ONE_BY_ONE, [config], store=store, progress=False)
    path = store.path(ONE_BY_ONE.key(config))
    noticed = 0
    for trial in range(trials):
        data = bytearray(path.read_bytes())
        where = stream.randrange(len(data))
        if trial % 2:
            data = data[:where]
        else:
            data[where] ^= stream.randrange(1, 256)
        path.write_bytes(data)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            (result,) = sweep(ONE_BY_ONE, [config], store=store, progress=False)
        noticed += any(w.category is DamagedResult for w in told) and squares([result]) == [900]
    note("results damaged", {"damaged": trials, "noticed and computed again": noticed})
    assert noticed == trials
    assert len(lines(log)) == trials + 1


def test_rivals(tmp_path):
    """Three sweeps at once over one store."""
    rounds, sweeps, count, twice, wrong = 5, 3, 60, 0, 0
    for k in range(rounds):
        log, folder = tmp_path / f"log{k}", tmp_path / f"s{k}"
        processes = [start(folder, log, count, 0.002) for _ in range(sweeps)]
        assert [p.wait(timeout=120) for p in processes] == [0] * sweeps
        twice += len(lines(log)) - count
        results = sweep(
            ONE_BY_ONE, [Counted(i, str(log), 0.002) for i in range(count)], store=folder,
            progress=False,
        )
        wrong += sum(a != i * i for i, a in enumerate(squares(results)))
        wrong += len(list(folder.glob("*.damaged")))
    note("sweeps at once", {"sweeps": rounds * sweeps, "runs": rounds * count,
                            "computed twice": twice, "damaged": wrong})
    assert wrong == 0
    assert twice == 0
