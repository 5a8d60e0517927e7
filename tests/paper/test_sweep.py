"""Sweeps: each run once, whatever is killed, whoever else is sweeping."""

import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from counting import BATCHED, ONE_BY_ONE, Counted, lines, start, wait_for

from paper.store import DamagedResult, Store
from paper.sweep import SweepError, sweep

def test_order_and_reuse(tmp_path):
    log = tmp_path / "log"
    configs = [Counted(i, str(log)) for i in (3, 1, 2, 1)]
    results = sweep(ONE_BY_ONE, configs, store=tmp_path / "s", progress=False)
    assert [int(r.square[-1]) for r in results] == [9, 1, 4, 1]
    assert lines(log) == [3, 1, 2]
    more = [*configs, Counted(5, str(log))]
    sweep(ONE_BY_ONE, more, store=tmp_path / "s", progress=False)
    assert lines(log) == [3, 1, 2, 5]
    assert results[0].attrs["torch"] and results[0].attrs["wall_seconds"] >= 0


def test_batches_hold_runs_of_one_group(tmp_path):
    configs = [Counted(i, str(tmp_path / "log")) for i in range(8)]
    results = sweep(BATCHED, configs, store=tmp_path / "s", progress=False)
    assert [int(r.square[-1]) for r in results] == [i * i for i in range(8)]
    assert [int(r.batch) for r in results[:6]] == [3] * 6  # four of a kind: three and one


def test_one_failure_does_not_stop_the_others(tmp_path):
    log = tmp_path / "log"
    configs = [Counted(i, str(log), fails=i == 1) for i in range(4)]
    with pytest.raises(SweepError, match=r"1 of 4 runs failed.*number=1.*told to fail"):
        sweep(ONE_BY_ONE, configs, store=tmp_path / "s", progress=False)
    assert lines(log) == [0, 2, 3]
    assert len(Store(tmp_path / "s").keys()) == 3


def test_a_damaged_result_is_computed_again(tmp_path):
    log, store = tmp_path / "log", Store(tmp_path / "s")
    configs = [Counted(i, str(log)) for i in range(3)]
    sweep(ONE_BY_ONE, configs, store=store, progress=False)
    path = store.path(ONE_BY_ONE.key(configs[1]))
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    with pytest.warns(DamagedResult, match="checksum does not match"):
        results = sweep(ONE_BY_ONE, configs, store=store, progress=False)
    assert [int(r.square[-1]) for r in results] == [0, 1, 4]
    assert lines(log) == [0, 1, 2, 1]


def test_kill_9_at_any_moment_loses_no_finished_run(tmp_path):
    """Killed at five moments, then resumed: every finished run is kept, none is repeated."""
    log, store, count = tmp_path / "log", Store(tmp_path / "s"), 30
    kept: dict[str, bytes] = {}
    for after in (1, 4, 9, 15, 22):
        process = start(store.folder, log, count, 0.02)
        wait_for(lambda target=after: len(store.keys()) >= target)
        time.sleep(0.013 * after % 0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = {k: store.path(k).read_bytes() for k in store.keys()}
        assert all(now[k] == data for k, data in kept.items())
        kept = now
    assert 22 <= len(kept) < count
    configs = [Counted(i, str(log), 0.02) for i in range(count)]
    results = sweep(ONE_BY_ONE, configs, store=store, progress=False)
    assert [int(r.square[-1]) for r in results] == [i * i for i in range(count)]
    assert all(store.path(k).read_bytes() == data for k, data in kept.items())
    # a run is repeated only if it was killed between its end and its being stored: <= 1 a kill
    assert set(lines(log)) == set(range(count)) and len(lines(log)) <= count + 5
    assert not list(store.folder.glob("*.part"))


def test_two_sweeps_at_once_compute_each_run_once(tmp_path):
    log, folder = tmp_path / "log", tmp_path / "s"
    both = [start(folder, log, 25, 0.02) for _ in range(2)]
    assert [p.wait(timeout=60) for p in both] == [0, 0]
    assert sorted(lines(log)) == list(range(25))
    assert len(Store(folder).keys()) == 25 and not list(folder.glob("*.damaged"))


def test_processes_on_one_machine(tmp_path):
    log = tmp_path / "log"
    configs = [Counted(i, str(log), 0.05) for i in range(8)]
    with ProcessPoolExecutor(2) as pool:
        results = sweep(ONE_BY_ONE, configs, store=tmp_path / "s", executor=pool, progress=False)
    assert [int(r.square[-1]) for r in results] == [i * i for i in range(8)]
    workers = {line.split()[1] for line in log.read_text().splitlines()}
    assert str(os.getpid()) not in workers and len(workers) >= 1


def test_a_dead_process_of_a_pool_is_reported_and_the_sweep_resumes(tmp_path):
    log, store = tmp_path / "log", Store(tmp_path / "s")
    configs = [Counted(i, str(log), 0.05) for i in range(12)]
    with ProcessPoolExecutor(1) as pool:
        victim = pool.submit(os.getpid).result()

        def kill():
            wait_for(lambda: len(store.keys()) >= 3)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(SweepError, match="finished runs are stored, call again"):
            sweep(ONE_BY_ONE, configs, store=store, executor=pool, progress=False)
        killer.join()
    finished = store.keys()
    assert 3 <= len(finished) < 12
    before = len(lines(log))
    sweep(ONE_BY_ONE, configs, store=store, progress=False)
    assert len(store.keys()) == 12
    assert len(lines(log)) - before == 12 - len(finished)


@pytest.mark.filterwarnings("ignore")  # of the cluster's own, when one of its workers dies
def test_dask_cluster_survives_a_killed_worker(tmp_path):
    distributed = pytest.importorskip("distributed")
    import dask

    log, store, count = tmp_path / "log", Store(tmp_path / "s"), 24
    configs = [Counted(i, str(log), 0.1) for i in range(count)]
    settings = {
        "distributed.worker.memory.terminate": False,
        "distributed.admin.tick.limit": "1h",
        "distributed.logging.distributed": "critical",
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None,
            silence_logs="CRITICAL", local_directory=str(tmp_path),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        victim = client.submit(os.getpid, pure=False).result()

        def kill():
            wait_for(lambda: len(store.keys()) >= 6, 20.0)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        results = sweep(
            ONE_BY_ONE, configs, store=store, executor=client.get_executor(), progress=False
        )
        killer.join()
    assert [int(r.square[-1]) for r in results] == [i * i for i in range(count)]
    pids = {line.split()[1] for line in log.read_text().splitlines()}
    assert str(victim) in pids and len(pids) >= 2
    # the killed worker repeats at most the run it was in
    assert set(lines(log)) == set(range(count)) and len(lines(log)) <= count + 1


def test_the_bar_counts_stored_runs_as_done(tmp_path, capfd):
    log = tmp_path / "log"
    configs = [Counted(i, str(log)) for i in range(4)]
    sweep(ONE_BY_ONE, configs[:3], store=tmp_path / "s", progress=False)
    sweep(ONE_BY_ONE, configs, store=tmp_path / "s")
    shown = capfd.readouterr().err
    assert "4/4" in shown and "run/s" in shown
