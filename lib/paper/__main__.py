"""Thin command line: `claims` measures the ledger anew, `exponent-check` checks the schemes."""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children
from pathlib import Path

from learning_dynamics.files import hold
from paper.claims import read_claims
from paper.ledger import measured_record, read_ledger, settle, write_ledger
from paper.scales.coordinate_check.exponents import main as exponent_check
from paper.workers import worker

__all__ = ["main"]


def _measure(claim):
    start = time.perf_counter()
    try:
        return measured_record(claim), time.perf_counter() - start, None
    except Exception as error:  # one claim's failure must not lose the others' records
        return None, time.perf_counter() - start, f"{type(error).__name__}: {error}"


def claims(options: argparse.Namespace) -> int:
    """Measure claims and write their records; 1 if a measurement failed or a name is unknown."""
    root = Path(options.root)
    known = read_claims(root / "claims.yml")
    path = root / "results" / "claims.json"
    _, old = read_ledger(path, edited=True)
    unknown = set(options.ids) - {claim.id for claim in known}
    if unknown:
        print(f"unknown claims: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 1
    chosen = [
        claim
        for claim in known
        if (claim.id in options.ids if options.ids else claim.audit == options.audit)
        and not (options.missing and claim.id in old)
    ]
    path.parent.mkdir(exist_ok=True)
    failed = 0

    def keep(record):  # after each claim: another process may write the same files meanwhile
        with hold(path):
            records = read_ledger(path, edited=True)[1] | {record["id"]: record}
            order = [claim.id for claim in read_claims(root / "claims.yml")]
            write_ledger(path, [records[name] for name in order if name in records])

    with ProcessPoolExecutor(options.jobs, initializer=worker) as pool:
        try:
            measured = pool.map(_measure, chosen)
            for claim, (fresh, seconds, error) in zip(chosen, measured, strict=True):
                if error:
                    failed += 1
                    print(f"{claim.id}: {error}", file=sys.stderr, flush=True)
                    continue
                record, names = settle(claim, old.get(claim.id), fresh)
                keep(record)
                words = ", ".join(names) if names else "nothing moved"
                agree = (
                    ""
                    if fresh["quick"]["verdict"] == fresh["verdict"]
                    else (f"; the quick measurement says {fresh['quick']['verdict']}")
                )
                print(
                    f"{claim.id}: {fresh['verdict']}{agree} ({seconds:.1f} s; {words})", flush=True
                )
        except BaseException:  # nobody waits any more for what is being measured
            for process in active_children():
                process.terminate()
            raise
    return 1 if failed else 0


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: allowed are whole numbers from 1 on")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run the command; 2 if its input is at fault, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["exponent-check"]:
        return exponent_check(arguments[1:])
    parser = argparse.ArgumentParser(prog="paper", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("claims", help="measure claims, write results/claims.json")
    command.add_argument("ids", nargs="*", help="ids of claims; without, all")
    command.add_argument("--jobs", type=_count, default=os.cpu_count())
    command.add_argument("--audit", action="store_true", help="the slow claims instead")
    command.add_argument("--missing", action="store_true", help="only claims without a record")
    command.add_argument("--root", default=".", help="the folder that holds claims.yml")
    command.set_defaults(run=claims)
    commands.add_parser("exponent-check", help="measured exponents beside predicted ones")
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("stopped; the records of finished claims are kept", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"paper: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
