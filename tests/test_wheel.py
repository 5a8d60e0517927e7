"""What is declared is what is imported, and the library installs alone, C++ included."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from test_architecture import imports

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Where a module is not called as its distribution.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "pyyaml", "mpl_toolkits": "matplotlib"}


def declared(*extras):
    wanted = [*PROJECT["dependencies"], *(PROJECT["optional-dependencies"][e] for e in extras)]
    flat = [w for item in wanted for w in ([item] if isinstance(item, str) else item)]
    return {w.split("=")[0].split(">")[0].replace("_", "-").lower() for w in flat}


def imported(package):
    """Distributions that the package imports, at the top of a module or inside a function."""
    found = set()
    for path in (ROOT / "lib" / package).rglob("*.py"):
        found |= {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
    found -= {*sys.stdlib_module_names, "learning_dynamics", "paper"}
    return {DISTRIBUTIONS.get(name, name).replace("_", "-") for name in found}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    # triton comes with PyTorch's builds for CUDA; without it the package works as well.
    assert imported("learning_dynamics") - {"triton"} == declared()
    assert imported("paper") <= declared("paper")


def test_the_wheel_installs_alone(tmp_path):
    """Built and unpacked without what it needs; its own files are all there, the paper is not."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf8"), encoding="utf8")
    here = "lib/learning_dynamics"
    shutil.copytree(ROOT / here, tmp_path / here, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; print(build_meta.build_wheel('out'))"
    command = [sys.executable, "-W", "ignore", "-c", build]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wheel = tmp_path / "out" / done.stdout.split()[-1]
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
        archive.extractall(tmp_path / "site")
    own = [p for s in ("py", "cpp", "hpp") for p in (ROOT / here).rglob(f"*.{s}")]
    assert names == {p.relative_to(ROOT / "lib").as_posix() for p in own}
    code = "from learning_dynamics import saddles, scales, data; print(data.__file__)"
    own = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path / "site")), done.stderr
