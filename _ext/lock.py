"""Write the lock files and `environment.yml` from what is installed in this environment.

Public versions only: a local version such as 2.13.0+cpu is written as 2.13.0. What only the
benchmarks need, or what is installed without its own requirements, goes into its own file.
"""

from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: file -> what uses it; mup asks for torchvision, which it does not use here.
USES = {
    "requirements.lock": "the book and its tests use",
    "requirements-alone.lock": "the tests use without its own requirements",
    "requirements-bench.lock": "`make bench` adds",
}
ALONE, BENCH = {"mup"}, {"jax", "jaxlib", "ml-dtypes", "opt-einsum"}
#: Not pinned: this project, pip, and wheels that a GPU build of PyTorch pins itself.
LEFT_OUT = ("learning-dynamics", "pip", "nvidia-", "cuda-", "triton")
ENVIRONMENT = """# For conda users: the same versions as requirements.lock. Written by `make lock`.
name: learning_dynamics
channels: [conda-forge]
dependencies:
  - python=3.11
  - cxx-compiler
  - pip
  - pip:
{}      - --editable .
"""


def environment(pins):
    """The text of `environment.yml` for these pins."""
    return ENVIRONMENT.format("".join(f"      - {pin}\n" for pin in pins))


def main():
    """Write the lock files and `environment.yml`."""
    pins = {file: [] for file in USES}
    for name, version in sorted(
        (d.metadata["Name"].lower().replace("_", "-").replace(".", "-"), d.version)
        for d in distributions()
    ):
        kind = "-alone" if name in ALONE else "-bench" if name in BENCH else ""
        if name not in LEFT_OUT[:2] and not name.startswith(LEFT_OUT[2:]):
            pins[f"requirements{kind}.lock"].append(f"{name}=={version.split('+')[0]}")
    for file, lines in pins.items():
        if lines:
            head = (
                f"# Written by `make lock`: exact public versions of everything that {USES[file]}."
            )
            (ROOT / file).write_text("\n".join([head, *lines, ""]), encoding="utf8")
            print(f"{file}: {len(lines)} packages")
    (ROOT / "environment.yml").write_text(environment(pins["requirements.lock"]), encoding="utf8")


if __name__ == "__main__":
    main()
