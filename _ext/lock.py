"""Write the lock files from what is installed in this environment.

Public versions only: a local version such as 2.13.0+cpu is written as 2.13.0. What only the
benchmarks need, or what is installed without its own requirements, goes into its own file.
"""

from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = "# Written by `make lock`: exact public versions of everything that {}."
#: file -> what uses it, which packages; mup asks for torchvision, which it does not use here.
LOCKS = {
    "requirements-alone.lock": ("the tests use without its own requirements", {"mup"}),
    "requirements-bench.lock": ("`make bench` adds", {"jax", "jaxlib", "ml-dtypes", "opt-einsum"}),
}
#: Not pinned: this project, pip, and wheels that a GPU build of PyTorch pins itself.
OWN, ACCELERATOR = {"learning-dynamics", "pip"}, ("nvidia-", "cuda-", "triton")


def main():
    """Write the lock files."""
    found = {
        d.metadata["Name"].lower().replace("_", "-").replace(".", "-"): d.version.split("+")[0]
        for d in distributions()
    }
    others = found.keys() - OWN.union(*(names for _, names in LOCKS.values()))
    own = {name for name in others if not name.startswith(ACCELERATOR)}
    for file, (use, names) in {
        "requirements.lock": ("the book and its tests use", own),
        **LOCKS,
    }.items():
        pins = [f"{name}=={found[name]}" for name in sorted(names & found.keys())]
        if pins:
            (ROOT / file).write_text("\n".join([HEAD.format(use), *pins, ""]), encoding="utf8")
            print(f"{file}: {len(pins)} packages")


if __name__ == "__main__":
    main()
