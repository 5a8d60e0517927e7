"""Sweeps: each run once, whatever is killed, refused or full, whoever else is sweeping."""

import errno
import functools
import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import xarray as xr

from audit_record import note
from counting import BATCHED, ONE_BY_ONE, Counted, lines, squares, start, stored, wait_for
from paper import store as store_module
from paper import sweep as sweep_module
from paper.store import DamagedResult, Store
from paper.sweep import Experiment, SweepError

CHAPTER = Path(__file__).parents[2] / "chapters" / "scaling-out.md"
AUDIT = pytest.mark.audit
sweep = functools.partial(sweep_module.sweep, progress=False)


def appending(config: list) -> xr.Dataset:
    """A run that changes its configuration."""
    config[0].append(1)
    return xr.Dataset({"length": len(config[0])})


def test_order_and_reuse(tmp_path):
    log, store = tmp_path / "log", tmp_path / "s"
    configs = [Counted(i, str(log)) for i in (3, 1, 2, 1)]
    assert squares(sweep(ONE_BY_ONE, configs, store=store)) == [9, 1, 4, 1]
    sweep(ONE_BY_ONE, [*configs, Counted(5, str(log))], store=store)
    sweep(replace(ONE_BY_ONE, version=2), configs[:1], store=store)
    with pytest.raises(ValueError, match=r"^config\.seconds = nan"):  # before any is computed
        sweep(ONE_BY_ONE, [Counted(7, str(log)), Counted(8, str(log), float("nan"))], store=store)
    assert lines(log) == [3, 1, 2, 5, 3]
    shared = []
    results = sweep(Experiment("appending", appending), [[shared, 1], [shared, 2]], store=store)
    assert [int(r.length) for r in results] == [1, 1] and shared == []  # no run changes another's


HIDING = [functools.partial(appending), lambda c: c, Path("a").exists, functools.cache(appending)]
WRONG = [({part: f}, "defined at the top") for f in HIDING for part in ("run", "run_many")]
WRONG += [({"name": "../a"}, "^name"), ({"version": 0}, "^version"), ({"largest": 0}, "^largest")]


@pytest.mark.parametrize(("parts", "told"), WRONG)
def test_only_functions_of_a_module_are_experiments(parts, told, as_users_run):
    with pytest.raises(ValueError, match=told):
        Experiment(**{"name": "power", "run": appending} | parts)


@pytest.mark.parametrize("experiment", [ONE_BY_ONE, BATCHED])
def test_one_failure_does_not_stop_the_others(tmp_path, experiment):
    """Even if it is an OSError, and even in a batch; batches hold runs of one group."""
    log = tmp_path / "log"
    configs = [Counted(i, str(log), fails=i == 8) for i in range(9)]
    with pytest.raises(SweepError, match=r"number=8.*told to fail.*of 9 runs 8 are stored and 1 f"):
        sweep(experiment, configs, store=tmp_path / "s")
    assert sorted(lines(log)) == list(range(8))
    results = sweep(experiment, configs[:8], store=tmp_path / "s")
    assert squares(results) == [i * i for i in range(8)]
    if experiment is BATCHED:
        assert [int(r.batch) for r in results[:6]] == [3] * 6  # of four of a kind three


def test_damaged_and_exchanged_results_are_computed_again(tmp_path):
    log, store = tmp_path / "log", Store(tmp_path / "s")
    configs = [Counted(i, str(log)) for i in range(3)]
    sweep(ONE_BY_ONE, configs, store=store)
    one, two, three = (store.path(ONE_BY_ONE.key(c)) for c in configs)
    data, exchanged = bytearray(one.read_bytes()), two.read_bytes()
    data[700] ^= 1
    one.write_bytes(data)
    two.write_bytes(three.read_bytes())
    three.write_bytes(exchanged)
    with pytest.warns(DamagedResult, match="checksum"), pytest.warns(match="another result"):
        results = sweep(ONE_BY_ONE, configs, store=store)
    assert squares(results) == [0, 1, 4] and lines(log) == [0, 1, 2, 0, 1, 2]
    assert len(list(store.folder.glob("*.damaged"))) == 3


FULL = (
    r"^\[Errno 28\] cannot write: No space left on device; of 8 runs 3 are "
    r"stored and 0 failed; call again to resume: '.*\.nc'$"
)


@pytest.mark.parametrize(
    ("experiment", "pool"), [(BATCHED, None), (ONE_BY_ONE, ThreadPoolExecutor)]
)
def test_a_full_disk_stops_the_sweep_and_keeps_what_is_stored(
    tmp_path, monkeypatch, experiment, pool
):
    log, write = tmp_path / "log", store_module.write_atomically

    def fill_up(path, data):
        if len(stored(tmp_path / "s")) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data)

    configs = [Counted(i, str(log)) for i in range(8)]
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_atomically", fill_up)
        with pytest.raises(OSError, match=FULL) as told:
            sweep(experiment, configs, store=tmp_path / "s", executor=pool and pool(1))
    assert told.value.errno == errno.ENOSPC and isinstance(told.value, SweepError)
    before = stored(tmp_path / "s")
    assert len(before) == 3 and len(lines(log)) < 8
    assert squares(sweep(experiment, configs, store=tmp_path / "s")) == [i * i for i in range(8)]
    assert before.items() <= stored(tmp_path / "s").items()


@pytest.mark.parametrize(
    ("kills", "per_kill", "seconds"), [(2, 7, 0.02), pytest.param(20, 40, 0.0, marks=AUDIT)]
)
def test_kill_9_at_any_moment_loses_no_finished_run(tmp_path, kills, per_kill, seconds):
    """Killed and begun again: every finished run is kept, none is repeated."""
    log, folder, count, kept = tmp_path / "log", tmp_path / "s", kills * per_kill, {}
    lost, stream = 0, random.Random(0)
    for _ in range(kills):
        with start(folder, log, count, seconds) as process:
            wait_for(lambda: len(stored(folder)) > len(kept) or process.poll() is not None)
            time.sleep(0.2 * stream.random())
            os.killpg(process.pid, signal.SIGKILL)
        lost += len(kept.items() - stored(folder).items())
        kept = stored(folder)
    configs = [Counted(i, str(log), seconds) for i in range(count)]
    assert squares(sweep(ONE_BY_ONE, configs, store=folder)) == [i * i for i in range(count)]
    lost += len(kept.items() - stored(folder).items())
    repeated = len(lines(log)) - count
    if seconds == 0:
        note("sweeps killed", {"kills": kills, "runs": count, "lost": lost, "repeated": repeated})
    assert lost == 0 and set(lines(log)) == set(range(count))
    assert repeated <= kills  # at most the run at hand, killed between its end and its storing
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize(("rounds", "sweeps"), [(1, 2), pytest.param(5, 3, marks=AUDIT)])
def test_sweeps_at_once_compute_each_run_once(tmp_path, rounds, sweeps):
    count, twice, damaged = 40, 0, 0
    for k in range(rounds):
        log, folder = tmp_path / f"log{k}", tmp_path / f"s{k}"
        with ExitStack() as stack:
            running = [stack.enter_context(start(folder, log, count, 0.01)) for _ in range(sweeps)]
        assert [p.returncode for p in running] == [0] * sweeps
        assert set(lines(log)) == set(range(count)) and len(stored(folder)) == count
        twice += len(lines(log)) - count
        damaged += len(list(folder.glob("*.damaged")))
    if rounds > 1:
        counts = {"sweeps": rounds * sweeps, "runs": rounds * count}
        note("sweeps at once", counts | {"computed twice": twice, "damaged": damaged})
    assert twice == damaged == 0


def test_workers_end_with_their_parent(tmp_path):
    """Whoever is left would hold the pipe open."""
    with start(tmp_path / "s", tmp_path / "log", 400, 0.1, "spawn") as process:
        wait_for(lambda: len(lines(tmp_path / "log")) >= 6)
        os.kill(process.pid, signal.SIGKILL)
        try:
            process.communicate(timeout=30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_a_dead_process_of_a_pool_is_reported_and_the_sweep_resumes(tmp_path):
    configs = [Counted(i, str(tmp_path / "log"), dies=i == 5) for i in range(12)]
    words = "finished runs are stored, call again to resume; of 12 runs 5 are stored"
    with ProcessPoolExecutor(1) as pool, pytest.raises(SweepError, match=words):
        sweep(ONE_BY_ONE, configs, store=tmp_path / "s", executor=pool)
    assert squares(sweep(ONE_BY_ONE, configs, store=tmp_path / "s")) == [i * i for i in range(12)]
    assert lines(tmp_path / "log") == list(range(12))


@pytest.mark.parametrize("executor", ["processes", "dask"])
def test_the_script_of_the_page_runs(tmp_path, executor):
    """As it stands, or with its last lines replaced by those for Dask on one machine."""
    script, cluster = re.findall(r"```python\n(.*?)```", CHAPTER.read_text("utf-8"), re.DOTALL)
    if executor == "dask":
        cluster = re.sub(r"from dask_jobqueue .*|cluster\.scale.*", "", cluster)
        cluster = re.sub(r"SLURMCluster\((?s:.*?)\]\)", "LocalCluster(n_workers=1)", cluster)
        imported = "from dask.distributed import LocalCluster\n"
        script = script.split("if __name__")[0] + imported + cluster.replace("/shared/runs", "runs")
    (tmp_path / "script.py").write_text(script + "\n    print(len(results))\n")
    command, options = [sys.executable, "script.py"], {"capture_output": True, "text": True}
    done = subprocess.run(command, cwd=tmp_path, timeout=300, **options)
    assert done.returncode == 0 and done.stdout.split() == ["4"], done.stderr
    assert len(stored(tmp_path / "runs")) == 4
