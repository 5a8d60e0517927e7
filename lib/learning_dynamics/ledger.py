"""The recorded ledger, `results/claims.json`: a header and one record per measured claim.

A record keeps the numbers of the full measurement and, under `quick`, those of the short one that
the tests repeat. It is rewritten only when a number moved beyond the claim's `reproduce`.
"""

import ast
import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import learning_dynamics
from learning_dynamics.claims import Claim, measure, moved, record
from learning_dynamics.files import write_atomically

__all__ = ["RECORDED", "code_digest", "header", "measure_all", "measured_record", "read_ledger",
           "recorded", "settle", "write_ledger"]

#: The repository's ledger of records.
RECORDED = Path(__file__).resolve().parents[2] / "results" / "claims.json"
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")
QUICK_FIELDS = ("verdict", "measured", "predicted", "tolerance", "seeds", "details")


def code_digest() -> str:
    """Digest of the package's code, 12 hex digits; comments and docstrings do not count."""
    root = Path(learning_dynamics.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [
                    child for child in body
                    if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant))
                ]
        digest.update(path.relative_to(root).as_posix().encode() + ast.dump(tree).encode())
    return digest.hexdigest()[:12]


def header() -> dict[str, str]:
    """Versions of what measured, and the digest of the code."""
    versions = {name: version(name).split("+")[0] for name in LIBRARIES}
    return {
        "code": code_digest(),
        "package": learning_dynamics.__version__,
        "python": platform.python_version(),
        **versions,
        "machine": f"{platform.system()} {platform.machine()}",
    }


def measured_record(claim: Claim) -> dict[str, Any]:
    """Measure a claim twice, in full and quick: one record of the ledger."""
    full = record(claim, measure(claim))
    quick = record(claim, measure(claim, quick=True))
    return {**full, "quick": {name: quick[name] for name in QUICK_FIELDS}}


def measure_all(claims: Iterable[Claim], executor: Executor) -> Iterator[dict[str, Any]]:
    """Records of many claims, in their order; `executor` is any `concurrent.futures` one."""
    yield from executor.map(measured_record, claims)


def settle(claim: Claim, old: Mapping[str, Any] | None, new: dict[str, Any]) -> tuple[Any, list[str]]:
    """The record to keep and the names of the numbers that moved (relative to `reproduce`).

    The old record stays, byte for byte, unless a number, the verdict or the status moved.
    """
    if old is None:
        return new, ["new"]
    full_old, full_new = ({k: v for k, v in r.items() if k != "quick"} for r in (old, new))
    tolerances = claim.reproduce, claim.reproduce_absolute
    names = list(moved(full_old, full_new, *tolerances))
    quick = moved(old.get("quick", {}), new["quick"], *tolerances)
    names += [f"quick {name}" for name in quick]
    return (new if names else old), names


def read_ledger(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The header and the records by id; both empty if there is no file yet."""
    if not path.exists():
        return {}, {}
    content = json.loads(path.read_text())
    return content["header"], {entry["id"]: entry for entry in content["claims"]}


def recorded(claim: str, *, path: Path = RECORDED) -> dict[str, Any]:
    """The recorded numbers of one claim by name: `measured`, `predicted` and all details.

    For chapters that quote the ledger. Raises ValueError if the claim has no record.
    """
    records = read_ledger(path)[1]
    if claim not in records:
        raise ValueError(f"claim = {claim!r}: no record in {path.name}; there are {sorted(records)}")
    entry = records[claim]
    return {"measured": entry["measured"], "predicted": entry["predicted"], **entry["details"]}


def write_ledger(path: Path, head: Mapping[str, str], records: Iterable[Mapping[str, Any]]) -> None:
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
    text = f'{{\n "header": {block(head, " ")},\n "claims": [\n  {entries}\n ]\n}}\n'
    write_atomically(path, text.encode())
