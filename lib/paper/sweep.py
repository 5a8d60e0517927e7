"""Run an experiment for many configurations, each once, wherever an executor takes it."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import BrokenExecutor, Executor, as_completed
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import xarray as xr
from tqdm import tqdm

from paper.digests import canonical, code_digest, config_digest, provenance
from paper.store import Store

__all__ = ["Experiment", "SweepError", "sweep"]


class SweepError(RuntimeError):
    """Some runs failed; all others are stored and will not be computed again."""


@dataclass(frozen=True)
class Experiment:
    """A function from a frozen configuration to a labelled result.

    name     : first part of every key.
    run      : configuration -> xarray.Dataset; a function of a module, so that it can be sent
               to other processes.
    run_many : configurations of one group -> their results, in order: runs batched on one
               device. None: one at a time.
    group    : configuration -> what it must share with others to be batched with them; None
               runs it alone.
    largest  : most runs in a batch.
    """

    name: str
    run: Callable[[Any], xr.Dataset]
    run_many: Callable[[Sequence[Any]], Sequence[xr.Dataset]] | None = None
    group: Callable[[Any], Hashable] | None = None
    largest: int = 64

    def key(self, config: Any) -> str:
        """Name, digest of the configuration and digest of the code it depends on."""
        return f"{self.name}-{config_digest(config)[:20]}-{code_digest(self.run)[:12]}"

    def batches(self, configs: Sequence[Any]) -> list[list[Any]]:
        """The configurations as they are computed together, in order of first appearance."""
        if self.run_many is None or self.group is None:
            return [[c] for c in configs]
        groups: dict[Hashable, list[Any]] = defaultdict(list)
        for i, config in enumerate(configs):
            shared = self.group(config)
            groups[("alone", i) if shared is None else ("group", shared)].append(config)
        size = self.largest
        return [g[i : i + size] for g in groups.values() for i in range(0, len(g), size)]


def _finish(folder: Path, experiment: Experiment, configs: Sequence[Any]) -> int:
    """Compute what is missing of one batch and store it; the number of runs computed.

    Runs in the worker. The locks make a second sweep wait for the first, then find its results.
    """
    store = Store(folder)
    keys = {experiment.key(c): c for c in configs}
    with store.lock(*keys):
        missing = {k: c for k, c in keys.items() if store.get(k) is None}
        if not missing:
            return 0
        started = perf_counter()
        if experiment.run_many is not None and len(missing) > 1:
            results = list(experiment.run_many(list(missing.values())))
        else:
            results = [experiment.run(c) for c in missing.values()]
        seconds = (perf_counter() - started) / len(missing)
        for (key, config), result in zip(missing.items(), results, strict=True):
            labels = {
                "config": str(canonical(config)),
                "code_digest": code_digest(experiment.run),
                "wall_seconds": seconds,
                **provenance(),
            }
            store.put(key, result.assign_attrs(labels))
    return len(missing)


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
    A killed sweep is resumed by calling again. Raises SweepError if runs failed, naming them,
    after all others were stored.
    """
    store = store if isinstance(store, Store) else Store(Path(store))
    keys = [experiment.key(c) for c in configs]
    wanted = dict(zip(keys, configs, strict=True))
    missing = [c for k, c in wanted.items() if store.get(k) is None]
    batches = experiment.batches(missing)
    failures: list[tuple[Any, BaseException]] = []
    bar = tqdm(
        total=len(wanted), initial=len(wanted) - len(missing), desc=experiment.name,
        unit="run", disable=not progress, smoothing=0.1,
    )
    with bar:
        if executor is None:
            for batch in batches:
                try:
                    _finish(store.folder, experiment, batch)
                except Exception as error:  # the other runs go on
                    failures.append((batch, error))
                bar.update(len(batch))
        else:
            futures = {
                executor.submit(_finish, store.folder, experiment, b): b for b in batches
            }
            for future in as_completed(futures):
                error = future.exception()
                if isinstance(error, BrokenExecutor):
                    for other in futures:
                        other.cancel()
                    raise SweepError(
                        f"{experiment.name}: a worker process died ({error}); finished runs "
                        "are stored, call again to resume"
                    ) from error
                if error is not None:
                    failures.append((futures[future], error))
                bar.update(len(futures[future]))
    if failures:
        batch, error = failures[0]
        raise SweepError(
            f"{experiment.name}: {sum(len(b) for b, _ in failures)} of {len(missing)} runs "
            f"failed, the others are stored; the first: {batch[0]!r}: {error!r}"
        ) from error
    results = {k: store.get(k) for k in wanted}
    lost = [c for k, c in wanted.items() if results[k] is None]
    if lost:
        raise SweepError(f"{experiment.name}: {len(lost)} results are gone again, the first: "
                         f"{lost[0]!r}; call again to recompute them")
    return [results[k] for k in keys]
