"""Write the lock files from what is installed in this environment.

Public versions only: a local version such as 2.13.0+cpu is written as 2.13.0. What only the
benchmarks need, or what is installed without its own requirements, goes into its own file. Files for
pip to install from also hold the digests of what PyPI offers of each version, but for PyTorch, whose builds
differ by the device.
"""

import subprocess
from importlib.metadata import distributions
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
HEAD = "# Written by `make lock`: exact public versions of everything that {}.\n"
#: file -> what uses it, which packages; mup asks for torchvision, which it does not use here.
LOCKS = {
    "requirements-alone.lock": ("the tests use without its own requirements", {"mup"}),
    "requirements-bench.lock": ("`make bench` adds", {"jax", "jaxlib", "ml-dtypes", "opt-einsum"}),
}
#: Not pinned: this project, pip, what fetches the digests, and wheels that a GPU build of PyTorch pins itself.
OWN, ACCELERATOR = {"learning-dynamics", "pip", "uv"}, ("nvidia-", "cuda-", "triton")
#: Prints the lines of a lock with the digests of all their files.
DIGESTS = "uv pip compile - --no-deps --generate-hashes --no-annotate --no-header --quiet"


def main():
    """Write the lock files."""
    found = {canonicalize_name(d.name): d.version.split("+")[0] for d in distributions()}
    others = found.keys() - OWN.union(*(names for _, names in LOCKS.values()))
    own = {name for name in others if not name.startswith(ACCELERATOR)}
    files = {
        "requirements.lock": ("the book and its tests use", own),
        "requirements-hashes.lock": ("the book and its tests use but PyTorch", own - {"torch"}),
    }
    for file, (use, names) in (files | LOCKS).items():
        pins = "".join(f"{name}=={found[name]}\n" for name in sorted(names & found.keys()))
        if pins and file != "requirements.lock":
            pins = subprocess.check_output(DIGESTS.split(), input=pins, text=True)
        if pins:
            (ROOT / file).write_text(HEAD.format(use) + pins, encoding="utf8")
            print(f"{file}: {pins.count('==')} packages")


if __name__ == "__main__":
    main()
