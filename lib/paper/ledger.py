"""The recorded ledger, `results/claims.json`: one record per measured claim.

A record keeps the numbers of the full measurement and, under `quick`, those of the short one that
the tests repeat; what measured it (`provenance`); and a checksum of all this. It is rewritten only
when a number moved beyond the claim's `reproduce`. The checksum finds a number changed by accident
or by hand; whoever wants to can compute it anew, so it is no security.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from learning_dynamics.files import write_atomically
from paper.claims import Claim, Evidence, check_reproduce, measure, moved, record
from paper.records import RESULTS, provenance

__all__ = [
    "RECORDED",
    "code_digest",
    "faults",
    "measured_record",
    "read_ledger",
    "recorded",
    "sealed",
    "settle",
    "write_ledger",
]

#: The repository's ledger of records.
RECORDED = RESULTS / "claims.json"
FORMAT = 2  # of the file; 1 had one provenance for all records, in the header
NUMBER_FIELDS = ("measured", "predicted", "tolerance", "seeds", "details")
QUICK_FIELDS = ("verdict", *NUMBER_FIELDS)


@cache
def code_digest() -> str:
    """Digest of the sources under `lib/`, 12 hex digits."""
    root, digest = RESULTS.parent / "lib", hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".cpp", ".hpp")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@cache
def _commit() -> dict[str, Any]:
    """The commit of the checkout that holds this package; whether the code is that commit's."""
    root = RESULTS.parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if (root / ".git").exists():
            changed = git("status", "--porcelain", "--", "lib", "claims.yml")
            commit = git("rev-parse", "--short=12", "HEAD")
            return {"commit": commit, "code_as_committed": not changed}
    except (OSError, subprocess.CalledProcessError):
        pass  # no git, or no commit yet: the digest of the code still tells
    return {}


@cache
def _opened() -> set[str]:
    """The files under results/ that this process opened so far; it grows from the first call on."""
    files: set[str] = set()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            path = Path(os.path.abspath(arguments[0]))
            if path.parent == RECORDED.parent:
                files.add(f"{path.parent.name}/{path.name}")

    sys.addaudithook(note)
    return files


def measured_record(claim: Claim) -> dict[str, Any]:
    """Measure a claim twice, in full and quick: one record of the ledger, with its checksum.

    If the full measurement read stored records, its provenance says which, as `from_record`.
    """
    opened = _opened()
    opened.clear()
    evidence = measure(claim)
    stored = {"from_record": sorted(opened)} if opened else {}
    full, quick = record(claim, evidence), measure(claim, quick=True)
    short = record(claim, quick)
    for measured in (evidence, quick):
        check_reproduce(claim, measured)
    return sealed(
        {
            **full,
            "quick": {name: short[name] for name in QUICK_FIELDS},
            "provenance": {
                "function": claim.measure,
                **_commit(),
                "code": code_digest(),
                **provenance(),
                **stored,
            },
        }
    )


def sealed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the checksum of all its other fields."""
    body = {name: value for name, value in entry.items() if name != "checksum"}
    text = json.dumps(body, sort_keys=True, allow_nan=False)
    return {**body, "checksum": hashlib.sha256(text.encode()).hexdigest()[:16]}


def faults(claim: Claim, entry: Mapping[str, Any]) -> list[str]:
    """What is wrong with a record: verdicts and limits are worked out anew from its numbers."""
    wrong = [] if entry == sealed(entry) else ["its checksum is another"]
    if entry["quick"]["verdict"] != entry["verdict"]:
        wrong.append("the short measurement has another verdict")
    for name, part in (("full", entry), ("quick", {**entry, **entry["quick"]})):
        try:
            evidence = Evidence(**{field: part[field] for field in NUMBER_FIELDS})
            fresh = record(claim, evidence)
            check_reproduce(claim, evidence)
        except ValueError as error:
            wrong.append(f"{name}: {error}")
            continue
        wrong += [
            f"{name} {field} is {part[field]!r}, not {fresh[field]!r}"
            for field in ("id", "thesis", "status", "verdict")
            if part[field] != fresh[field]
        ]
    return wrong


def settle(
    claim: Claim, old: Mapping[str, Any] | None, new: dict[str, Any]
) -> tuple[Any, list[str]]:
    """The record to keep and the names of the numbers that moved (relative to `reproduce`).

    The old record stays, byte for byte, unless a number, the verdict or the status moved, or it
    does not have its checksum.
    """
    if old is None or old != sealed(old):
        return new, ["new" if old is None else "the record had been edited"]
    apart = ("quick", "provenance", "checksum")
    full_old, full_new = ({k: v for k, v in r.items() if k not in apart} for r in (old, new))
    tolerances = claim.reproduce, claim.reproduce_absolute
    names = list(moved(full_old, full_new, *tolerances))
    quick = moved(old.get("quick", {}), new["quick"], *tolerances)
    names += [f"quick {name}" for name in quick]
    return (new if names else old), names


def read_ledger(
    path: Path, *, edited: bool = False
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The header and the records by id; both empty if there is no file yet.

    Raises ValueError for a damaged file, and unless `edited` for a record without its checksum.
    """
    if not path.exists():
        return {}, {}
    try:
        content = json.loads(path.read_text(encoding="utf8"))
        head, records = content["header"], {entry["id"]: entry for entry in content["claims"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): take it back from the repository") from None
    if len(records) != len(content["claims"]):
        raise ValueError(f"{path}: some claim has two records: allowed is one")
    wrong = [name for name, entry in records.items() if entry != sealed(entry)]
    if wrong and not edited:
        raise ValueError(
            f"{path}: edited since they were measured: {', '.join(wrong)}; "
            "measure again: python -m paper claims ID"
        )
    return head, records


def recorded(claim: str, *, path: Path = RECORDED) -> dict[str, Any]:
    """The recorded numbers of one claim by name: `measured`, `predicted` and all details.

    For chapters that quote the ledger. Raises ValueError if the claim has no record.
    """
    records = read_ledger(path)[1]
    if claim not in records:
        raise ValueError(
            f"claim = {claim!r}: no record in {path.name}; there are {sorted(records)}"
        )
    entry = records[claim]
    return {"measured": entry["measured"], "predicted": entry["predicted"], **entry["details"]}


def write_ledger(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write the ledger: one line per field, lists on one line, so that a diff shows what moved.

    The file is replaced whole: a process that dies while writing leaves the old one.
    """

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    def block(entry: Mapping[str, Any], indent: str) -> str:
        lines = [
            f"{indent} {line(key)}: "
            + (block(value, indent + " ") if isinstance(value, dict) else line(value))
            for key, value in entry.items()
        ]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}" if lines else "{}"

    entries = ",\n  ".join(block(entry, "  ") for entry in records)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f'{{\n "header": {block({"format": FORMAT}, " ")},\n "claims": [\n  {entries}\n ]\n}}\n'
    write_atomically(path, text.encode())
