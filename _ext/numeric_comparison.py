"""Outputs of a notebook compared as numbers: equal within a stated tolerance, else different.

Tolerance: |a - b| <= 1e-12 + 1e-6 |b|. Chapters print rounded numbers, so the tolerance only has to
absorb the last digits of unrounded ones (glued values) across processors and library versions.
"""

import re

__all__ = ["ATOL", "RTOL", "same_outputs", "snap"]

RTOL, ATOL = 1e-6, 1e-12
NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=e))(?:e[-+]?\d+)?", re.I)


def snap(test, reference):
    """`test` with each number that is close to its partner in `reference` replaced by it."""
    partners = NUMBER.findall(reference)
    if len(NUMBER.findall(test)) != len(partners):
        return test
    waiting = iter(partners)

    def one(match):
        partner = next(waiting)
        a, b = float(match[0]), float(partner)
        return partner if abs(a - b) <= ATOL + RTOL * abs(b) else match[0]

    return NUMBER.sub(one, test)


def _texts(output):
    """(container, key) of each text of an output, so that it can be replaced in place."""
    if "text" in output:
        yield output, "text"
    data = output.get("data", {})
    for key in sorted(data):
        if isinstance(data[key], str) and not key.startswith(("image/", "application/pdf")):
            yield data, key


def snap_outputs(test, reference):
    """Replace in `test`, in place, every number close to its partner in `reference`."""
    for t, r in zip(test, reference, strict=False):
        theirs = {key: holder for holder, key in _texts(r)}
        for holder, key in _texts(t):
            if key in theirs:
                holder[key] = snap(holder[key], theirs[key][key])


def same_outputs(old, new):
    """True if two lists of comparable outputs agree within the tolerance."""
    import copy

    new = copy.deepcopy(new)
    snap_outputs(new, old)
    return new == old
