"""Write the lock files and `environment.yml` from what is installed in this environment.

Public versions only: a local version such as 2.13.0+cpu is written as 2.13.0. What only the
benchmarks need goes into its own file.
"""

from importlib.metadata import distributions
from pathlib import Path

from learning_dynamics.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "3.11"
BENCH = {"jax", "jaxlib", "ml-dtypes", "opt-einsum"}
# Installed without their own requirements: mup asks for torchvision, which it does not use here.
ALONE = {"mup"}
OWN = {"learning-dynamics", "pip"}
# Wheels that a GPU build of PyTorch brings with it, pinned by PyTorch itself.
ACCELERATOR = ("nvidia-", "cuda-", "triton")
HEAD = "# Written by `make lock`: exact public versions of everything that {use}.\n"


def normal(name):
    """The name of a distribution as package indexes write it."""
    return name.lower().replace("_", "-").replace(".", "-")


def installed():
    """Installed distributions, name -> public version."""
    found = {normal(d.metadata["Name"]): d.version.split("+")[0] for d in distributions()}
    return {
        name: version
        for name, version in sorted(found.items())
        if name not in OWN and not name.startswith(ACCELERATOR)
    }


def environment(pins):
    """The text of `environment.yml` for these pins."""
    lines = [
        "# For conda users: the same versions as requirements.lock. Written by `make lock`.",
        "name: learning_dynamics",
        "channels: [conda-forge]",
        "dependencies:",
        f"  - python={PYTHON}",
        "  - cxx-compiler",
        "  - pip",
        "  - pip:",
        *(f"      - {pin}" for pin in pins),
        "      - --editable .",
    ]
    return "\n".join(lines) + "\n"


def main():
    """Write the lock files and `environment.yml`."""
    versions = installed()

    def pins(wanted):
        return [f"{name}=={version}" for name, version in versions.items() if wanted(name)]

    book = pins(lambda name: name not in BENCH | ALONE)
    bench, alone = pins(BENCH.__contains__), pins(ALONE.__contains__)
    use = {
        "requirements.lock": (book, "the book and its tests use"),
        "requirements-alone.lock": (alone, "the tests use without its own requirements"),
        "requirements-bench.lock": (bench, "`make bench` adds"),
    }
    for file, (pins, words) in use.items():
        if pins:
            write_atomically(
                ROOT / file, (HEAD.format(use=words) + "\n".join(pins) + "\n").encode()
            )
            print(f"{file}: {len(pins)} packages")
    write_atomically(ROOT / "environment.yml", environment(book).encode())


if __name__ == "__main__":
    main()
