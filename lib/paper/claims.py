"""The ledger: what is claimed, what was measured, what the predicate says.

`claims.yml` holds one entry per claim; each names a function that measures it. The verdict is
computed from the measured numbers and never typed.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from paper.predicates import evaluate, vacuous

__all__ = [
    "STATUSES",
    "Claim",
    "Evidence",
    "Measurement",
    "Numbers",
    "check_reproduce",
    "claim",
    "evaluate",
    "measure",
    "moved",
    "read_claims",
    "record",
    "verdict",
]

#: The largest relative change of a number that a claim may let pass as the same number.
LARGEST_REPRODUCE = 0.1
STATUSES = ("proved", "derived", "observed", "conditional", "conjectured", "refuted")
Numbers = float | Sequence[float] | np.ndarray | xr.DataArray


@dataclass(frozen=True)
class Evidence:
    """What one measurement of a claim returns.

    measured, predicted, tolerance : a number or a list of numbers of equal length.
    seeds   : the seeds used (empty for a deterministic computation).
    details : further named numbers (or lists of them) that the predicate may use.
    """

    measured: Numbers
    predicted: Numbers
    tolerance: Numbers
    seeds: Sequence[int] | xr.DataArray = field(default_factory=list)
    details: Mapping[str, Numbers] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.numbers().items():
            if not np.all(np.isfinite(np.asarray(value, dtype=float))):
                raise ValueError(f"evidence {name} = {value}: must be finite numbers")

    def numbers(self) -> dict[str, np.ndarray]:
        """All named numbers, as arrays."""
        named = {
            "measured": self.measured,
            "predicted": self.predicted,
            "tolerance": self.tolerance,
            **self.details,
        }
        return {k: np.asarray(v, dtype=float) for k, v in named.items()}


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger.

    id        : wing/name. thesis: "000", "002" or "ours" (whose claim it is).
    statement : in our words. label: theorem or section of the book that states it.
    status    : one of STATUSES. range: where it was tested. refuted_by: what would refute it.
    measure   : "module:function"; called as function(quick=bool) -> Evidence.
    predicate : expression over `measured`, `predicted`, `tolerance` and the details; each of its
        comparisons must be able to come out either way.
    printed   : optional predicate of the statement as the thesis prints it.
    reproduce : relative tolerance, at most 0.1, within which a rerun gives the recorded numbers.
    reproduce_absolute : absolute tolerance beside it, for numbers that are mere rounding; see
        `check_reproduce` for its limits.
    tests, figures : evidence by name: pytest ids and figure labels.
    audit     : too slow for `make test`; re-measured by `make audit`.
    sentence  : what the thesis prints, translated, with its place.
    names     : what a number of the evidence is, with its unit, by its name there.
    changed   : thresholds and tolerances that were changed after a measurement: old value, reason.
    """

    id: str
    thesis: str
    statement: str
    label: str
    status: str
    range: str
    refuted_by: str
    measure: str
    predicate: str
    tests: list[str]
    figures: list[str]
    printed: str | None = None
    reproduce: float = 1e-6
    reproduce_absolute: float = 1e-9
    audit: bool = False
    sentence: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    changed: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"{self.id}: status = {self.status!r}: allowed are {STATUSES}")
        if self.thesis not in ("000", "002", "ours"):
            raise ValueError(f"{self.id}: thesis = {self.thesis!r}: allowed are 000, 002, ours")
        for name, most in (("reproduce", LARGEST_REPRODUCE), ("reproduce_absolute", np.inf)):
            value = getattr(self, name)
            if not (isinstance(value, float | int) and 0 <= value <= most and value < np.inf):
                raise ValueError(f"{self.id}: {name} = {value!r}: allowed are numbers 0 to {most}")
        for expression in (self.predicate, self.printed):
            if expression is not None and (fault := vacuous(expression)):
                raise ValueError(f"{self.id}: predicate {expression!r:.80}: {fault}")


def read_claims(path: Path) -> list[Claim]:
    """The claims in `claims.yml`, in order. Raises ValueError for whatever is no list of claims."""
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path.name}: holds {entries!r:.60}: allowed is a list of claims")
    claims = []
    for entry in entries:
        try:
            claims.append(Claim(**entry))
        except TypeError as error:
            raise ValueError(f"{path.name}, claim {entry.get('id')}: {error}") from None
    ids = [c.id for c in claims]
    if len(ids) != len(set(ids)):
        double = sorted({i for i in ids if ids.count(i) > 1})
        raise ValueError(f"{path.name}: ids used twice: {', '.join(double)}")
    return claims


def measure(claim: Claim, *, quick: bool = False) -> Evidence:
    """Run the measurement that the claim names."""
    module, _, function = claim.measure.partition(":")
    measurement = getattr(importlib.import_module(module), function)
    if isinstance(measurement, Measurement) and measurement.claim != claim.id:
        raise ValueError(f"{claim.id}: {claim.measure} measures {measurement.claim!r}")
    return measurement(quick=quick)


def verdict(claim: Claim, evidence: Evidence) -> str:
    """`holds`, `holds-corrected` or `fails`, computed.

    With a `printed` predicate: holds if the printed statement passes as well, holds-corrected if
    only ours does. Where ours fails nothing holds, whatever the printed one allows.
    """
    return _verdict(claim, evidence.numbers())


def _verdict(claim: Claim, numbers: Mapping[str, Any]) -> str:
    if not evaluate(claim.predicate, numbers):
        return "fails"
    printed = claim.printed is None or evaluate(claim.printed, numbers)
    return "holds" if printed else "holds-corrected"


def record(claim: Claim, evidence: Evidence) -> dict[str, Any]:
    """The ledger's record of one measured claim, ready for JSON.

    Raises ValueError for a tolerance above half the largest predicted number (or measured one,
    where zero is predicted) and above 0.1: it would let everything pass.
    """
    largest = {name: np.max(np.abs(x), initial=0.0) for name, x in evidence.numbers().items()}
    most = max(0.1, (largest["predicted"] or largest["measured"]) / 2)
    if largest["tolerance"] > most:
        raise ValueError(f"{claim.id}: tolerance = {largest['tolerance']:g}: at most {most:g}")
    return {
        "id": claim.id,
        "thesis": claim.thesis,
        "status": claim.status,
        "verdict": verdict(claim, evidence),
        **asdict(evidence),
    }


def check_reproduce(claim: Claim, evidence: Evidence) -> None:
    """Raise ValueError if `reproduce` is wide beside what was measured.

    `reproduce_absolute` may be a hundredth of the largest measured number, or the tolerance where
    all is rounding (below 1e-6). The numbers of one name may not move within the two, all one way
    or each its own, so that the verdict changes; whole numbers move by whole steps.
    """
    numbers, old = evidence.numbers(), verdict(claim, evidence)
    scale = np.max(np.abs(numbers["measured"]), initial=0.0)
    most = scale / 100 if scale > 1e-6 else np.max(numbers["tolerance"])
    if claim.reproduce_absolute > max(most, 1e-9):
        raise ValueError(
            f"{claim.id}: reproduce_absolute = {claim.reproduce_absolute:g}: at most "
            f"{most:g} beside measured numbers up to {scale:g}"
        )
    for name, values in numbers.items():
        step = claim.reproduce_absolute + claim.reproduce * np.abs(values)
        step = np.where(values == np.round(values), np.floor(step), step)
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (8, *values.shape))
        signs[0] = 1.0
        for move in (way * step for sign in signs for way in (sign, -sign) if np.any(step)):
            new = _verdict(claim, {**numbers, name: values + move})
            if new != old:
                raise ValueError(
                    f"{claim.id}: reproduce = {claim.reproduce:g} and reproduce_absolute = "
                    f"{claim.reproduce_absolute:g} let {name} move by {np.max(np.abs(move)):.2g}, "
                    f"from {old!r} to {new!r}: allowed is what leaves the verdict as it is"
                )


def moved(
    old: Mapping[str, Any], new: Mapping[str, Any], rtol: float, atol: float = 0.0
) -> dict[str, str]:
    """What differs between two records by more than atol + rtol |old|: its name -> how it moved."""
    changes = {}
    flat_old = {**old, **old.get("details", {})}
    flat_new = {**new, **new.get("details", {})}
    keys = (set(flat_old) | set(flat_new)) - {"details", "id", "thesis"}
    for key in sorted(keys):
        a, b = flat_old.get(key), flat_new.get(key)
        try:
            x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
        except (TypeError, ValueError):
            if a != b:
                changes[key] = f"recorded {a!r}, now {b!r}"
            continue
        if a is None or b is None or x.shape != y.shape:
            changes[key] = f"recorded {a}, now {b}"
            continue
        change, allowed = np.abs(y - x), atol + rtol * np.abs(x)
        far = np.argwhere(~(change <= allowed))
        if len(far):
            changes[key] = "; ".join(
                f"{list(map(int, at)) or ''} recorded {x[at]:.17g}, now {y[at]:.17g}: moved by "
                f"{change[at]:.2g} ({change[at] / max(abs(x[at]), 1e-300):.2g} relative), "
                f"allowed {allowed[at]:.2g}".lstrip()
                for at in map(tuple, far)
            )
    return changes


@lru_cache(maxsize=8)
def _shared(run: Callable[[Any], xr.Dataset], configuration: Any) -> xr.Dataset:
    """Claims of one process that judge the same run wait for it once."""
    return run(configuration)


def _plain(value: Any) -> Any:
    """Numbers of any container as JSON takes them, nine significant digits, in reading order."""
    flat = [float(f"{x:.9g}") for x in np.asarray(value, dtype=float).ravel()]
    return flat if np.ndim(value) else flat[0]


@dataclass(frozen=True)
class Measurement:
    """The measurement of a claim: `judge` turns the Datasets of `runs` into its evidence.

    It gets `run(configuration())` of each run, which is what the chapter draws; with quick=True
    it gets `run(configuration().quick())`. The evidence of a judge may hold arrays.
    """

    claim: str
    configuration: type
    runs: tuple[Callable[[Any], xr.Dataset], ...]
    judge: Callable[..., Evidence]

    def __call__(self, *, quick: bool = False) -> Evidence:
        chosen = self.configuration().quick() if quick else self.configuration()
        judged = self.judge(*(_shared(run, chosen) for run in self.runs))
        return Evidence(
            measured=_plain(judged.measured),
            predicted=_plain(judged.predicted),
            tolerance=_plain(judged.tolerance),
            seeds=[int(seed) for seed in judged.seeds],
            details={key: _plain(value) for key, value in judged.details.items()},
        )


def claim(
    name: str, configuration: type, *runs: Callable[[Any], xr.Dataset]
) -> Callable[[Callable[..., Evidence]], Measurement]:
    """Makes a function from Datasets to `Evidence` the `Measurement` of the claim `name`."""
    return partial(Measurement, name, configuration, runs)
