"""Run an experiment for many configurations, each once, wherever an executor takes it."""

import os
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import BrokenExecutor, Executor, as_completed
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import xarray as xr
from tqdm import tqdm

from learning_dynamics.files import hold
from learning_dynamics.runtime import check_integer, end_with_parent
from paper.records import encode, provenance
from paper.store import Key, Store, canonical, qualified

__all__ = ["Experiment", "StorageError", "SweepError", "sweep"]

#: Why a worker may have died, and what to do.
DIED = (
    "killed perhaps (is there enough memory?), or crashed, or for want of `if __name__ == "
    "'__main__':` in the script that starts workers; finished runs are stored, call again to resume"
)


class SweepError(RuntimeError):
    """Some runs failed; all others are stored and will not be computed again."""


class StorageError(OSError, SweepError):
    """The system refused to read, write or lock a file of the store; the sweep stopped there."""


@dataclass(frozen=True)
class Experiment:
    """A function from a frozen configuration to a labelled result.

    name     : letters, digits, - and _; with `version` and the configuration it is the key.
    run      : configuration -> xarray.Dataset; a function defined at the top of a module.
    version  : to be raised when `run`, or what it calls, gives other results than before.
    run_many : configurations of one group -> their results, in order: runs batched on one
               device. None: one at a time. If it raises, each run is computed alone.
    group    : configuration -> what it must share with others to be batched with them; None
               runs it alone.
    largest  : most runs in a batch.
    Raises ValueError if one of the functions is anything else: a partial, a closure, a lambda
    or a method hides arguments that no key would show.
    """

    name: str
    run: Callable[[Any], xr.Dataset]
    version: int = 1
    run_many: Callable[[Sequence[Any]], Sequence[xr.Dataset]] | None = None
    group: Callable[[Any], Hashable] | None = None
    largest: int = 64

    def __post_init__(self) -> None:
        if not self.name or not f"_{self.name}".replace("-", "_").isidentifier():
            raise ValueError(f"name = {self.name!r}: allowed are letters, digits, - and _")
        check_integer("version", self.version, least=1)
        check_integer("largest", self.largest, least=1)
        for f in (self.run, self.run_many or self.run, self.group or self.run):
            home = sys.modules.get(getattr(f, "__module__", ""))
            if type(f) is not FunctionType or getattr(home, f.__qualname__, None) is not f:
                raise ValueError(
                    f"{f!r}: allowed is a function defined at the top of a module; a partial, "
                    "closure, lambda, method or object hides arguments that no key shows"
                )

    def key(self, config: Any) -> Key:
        """What identifies the result; ValueError names what a configuration must not hold."""
        return Key(self.name, self.version, canonical(config), qualified(self.run))

    def batches(self, configs: Sequence[Any]) -> list[list[Any]]:
        """The configurations as they are computed together, in order of first appearance."""
        groups, size = defaultdict(list), self.largest
        for i, config in enumerate(configs):
            shared = self.group(config) if self.group and self.run_many else None
            groups[i if shared is None else ("group", shared)].append(config)
        return [g[i : i + size] for g in groups.values() for i in range(0, len(g), size)]


def _computed(experiment: Experiment, batch: dict[Key, Any]) -> list[bytes | tuple[str, str]]:
    """Of each run the file to store, or what it raised, with traceback; none can change a config.

    A batch that fails is computed again one by one, so that only the run at fault fails.
    """
    configs = [deepcopy(c) for c in batch.values()]
    try:
        many = experiment.run_many if len(batch) > 1 else None
        results = many(configs) if many else [experiment.run(c) for c in configs]
        pairs = zip(batch, results, strict=True)
        return [encode(r, provenance() | {"key": k._asdict()}) for k, r in pairs]
    except Exception as error:
        if len(batch) > 1:
            return [_computed(experiment, {k: c})[0] for k, c in batch.items()]
        what = f"{configs[0]!r}: {type(error).__name__}: {error}"
        return [(what, traceback.format_exc())]


def _finish(store: Store, experiment: Experiment, batch: dict[Key, Any]) -> tuple[list, Any]:
    """Compute what is missing of one batch and store it; what failed, and what stopped it.

    Runs in the worker. The locks make a second sweep wait for the first, then find its results.
    """
    end_with_parent()
    failed = []
    try:
        with hold(*map(store.path, batch)):
            missing = {k: c for k, c in batch.items() if store.get(k, set_aside=True) is None}
            for key, outcome in zip(missing, _computed(experiment, missing), strict=True):
                if isinstance(outcome, bytes):
                    store.put(key, outcome)
                else:
                    failed.append(outcome)
    except OSError as error:
        return failed, error
    return failed, None


def sweep(
    experiment: Experiment,
    configs: Sequence[Any],
    *,
    store: Store | Path | str,
    executor: Executor | None = None,
    progress: bool = True,
) -> list[xr.Dataset]:
    """The results of `configs`, in order; those already stored are not computed again.

    store    : a `Store` or its folder. With workers on other machines: a folder they all see.
    executor : any `concurrent.futures` executor, e.g. a `ProcessPoolExecutor` or
               `dask.distributed.Client(...).get_executor()`; None computes here.
    progress : show a bar with rate and remaining time.
    A killed sweep is resumed by calling again. Raises ValueError, before anything is computed,
    for a configuration that no key can hold; SweepError if runs failed, naming the first, after
    all others were stored, or if a worker died; StorageError, an OSError that names the file,
    if the store could not be read or written.
    """
    store = store if isinstance(store, Store) else Store(store)
    keys = [experiment.key(c) for c in configs]
    wanted = dict(zip(keys, configs, strict=True))
    results = {k: store.get(k) for k in wanted}
    missing = [c for k, c in wanted.items() if results[k] is None]
    batches = [{experiment.key(c): c for c in b} for b in experiment.batches(missing)]
    failed, cause, futures, done = [], None, {}, len(wanted) - len(missing)
    bar = tqdm(None, experiment.name, len(wanted), unit="run", disable=not progress, initial=done)
    try:
        if executor is None:
            reports = ((len(b), _finish(store, experiment, b)) for b in batches)
        else:
            futures = {executor.submit(_finish, store, experiment, b): len(b) for b in batches}
            reports = ((futures[f], f.result()) for f in as_completed(futures))
        for size, (bad, cause) in reports:
            failed += bad
            bar.update(size)
            if cause is not None:
                break
    except BrokenExecutor as error:
        cause = error
    finally:
        bar.close()
        for future in futures:
            future.cancel()
    stored = sum(os.path.exists(store.path(k)) for k in wanted)
    counts = f"of {len(wanted)} runs {stored} are stored and {len(failed)} failed"
    if isinstance(cause, OSError):
        text = f"{cause.strerror or cause}; {counts}; call again to resume"
        raise StorageError(cause.errno, text, cause.filename) from cause
    if cause is not None:
        raise SweepError(f"{experiment.name}: a worker process died ({cause}), {DIED}; {counts}")
    if failed:
        raise SweepError(f"{experiment.name}: {failed[0][0]}; {counts}\n{failed[0][1]}")
    results |= {k: store.get(k) for k, result in results.items() if result is None}
    complete = {k: result for k, result in results.items() if result is not None}
    if len(complete) < len(results):
        raise SweepError(f"{experiment.name}: results are gone again; call again to recompute them")
    return [complete[k] for k in keys]
