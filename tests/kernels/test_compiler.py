"""The cache of compiled code: several processes, damage, machines that lack something."""

import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernel_cases import case, difference
from learning_dynamics.activations import activation
from learning_dynamics.kernels import compiler, native
from learning_dynamics.kernels.two_layer_torch import DenseKernel
from learning_dynamics.saddles.two_layer import choose_kernel, gradient_descent

pytestmark = pytest.mark.skipif(not compiler.command(), reason="no C++ compiler on this machine")
SOURCES = Path(compiler.__file__).parent
SOURCE = SOURCES / "two_layer_linear.cpp"
X86 = "x86" in os.uname().machine
MACROS = (("M0", 2), ("M2", 1), ("REAL", "double"), ("LEAKY", 1))


def forget():
    for known in (compiler.build, native._say_once):
        known.cache_clear()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, forgotten afterwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget()
    yield tmp_path / "learning_dynamics"
    forget()


def build(march="native"):
    """The library, as a new process would get it."""
    compiler.build.cache_clear()
    return compiler.build(SOURCE, MACROS, march)


def test_a_shape_is_compiled_once_for_its_macros_and_processor(cache):
    build()
    compiler.build(SOURCE, (*MACROS[:2], ("REAL", "float"), MACROS[3]), "native")
    if X86:
        build("x86-64-v3")
    kept = set(cache.iterdir())
    assert len(kept) == 2 + X86
    ages = {f: f.stat().st_mtime_ns for f in kept}
    assert build().lanes() >= 2 and {f: f.stat().st_mtime_ns for f in cache.iterdir()} == ages


def test_processes_at_once(cache):
    """Each ends with a library that works, and nothing half-made stays."""
    call = f"['build'](Path({str(SOURCE)!r}), {MACROS!r}, 'native').lanes() >= 2"
    program = "import runpy; from pathlib import Path; print("
    program += f"runpy.run_path({compiler.__file__!r}){call})"
    command = [sys.executable, "-c", program]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [p.communicate(timeout=300)[0].strip() for p in started] == ["True"] * 3
    assert {f.suffix for f in cache.iterdir()} == {".so"}
    assert build().lanes() >= 2


def test_a_damaged_file_is_made_anew(cache):
    build()
    for damage in (lambda b: b[:-100], lambda b: b"", lambda b: b[:900] + b"x" + b[901:]):
        (kept,) = cache.iterdir()
        good = kept.read_bytes()
        kept.unlink()  # the library in memory keeps the old file
        kept.write_bytes(damage(good))
        assert build().lanes() >= 2
        assert kept.read_bytes() == good


def test_a_folder_that_cannot_be_written(tmp_path, cache, monkeypatch):
    """Here a file stands where the folder should be: there root cannot write either."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert build().lanes() >= 2
    assert (tmp_path / "file").read_text() == "" and not cache.exists()


UNUSABLE = {
    "no C++ compiler: CXX = ''": {"PATH": "/nowhere", "CXX": ""},
    "no C++ compiler: CXX = '/nowhere/c++'": {"CXX": "/nowhere/c++"},
    "failed: no message": {"CXX": "false"},
    "-march=abacus failed": {"LEARNING_DYNAMICS_MARCH": "abacus"},
}


@pytest.mark.parametrize(("words", "environment"), UNUSABLE.items())
def test_without_a_compiler_pytorch_is_taken_and_said_once(
    cache, monkeypatch, caplog, environment, words
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    long = activation("relu"), (3, 5, 2, 9), torch.empty(1), 1, 10**9
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert choose_kernel(*long, "auto") == (DenseKernel, "torch")
    (said,) = caplog.messages
    assert words in said and "Runs take the kernels of PyTorch" in said
    with pytest.raises(ValueError, match="backend = 'native': ") as error:
        choose_kernel(*long, "native")
    assert words in str(error.value)


@pytest.mark.skipif(not X86, reason="names of x86 processors")
@pytest.mark.parametrize("march", ["x86-64", "x86-64-v3", "wider"])
@pytest.mark.parametrize("act", ["linear", "relu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_another_processor_of_the_same_kind(cache, monkeypatch, march, act, dtype):
    """Vectors of 2 to 16 numbers, whatever this machine has; the widest in pieces."""
    if march == "wider":
        monkeypatch.setenv("CXX", f"{shlex.join(compiler.command())} -DWIDTH=64")
    else:
        monkeypatch.setenv("LEARNING_DYNAMICS_MARCH", march)
    weights, problem, _ = case((11, 9, 7, 37), scale=0.3, dtype=dtype)
    ends = [
        gradient_descent(weights, problem, step_size=0.02, steps=9, activation=act, backend=k).final
        for k in ("native", "torch")
    ]
    assert difference(*ends) < 60 * torch.finfo(dtype).eps


@pytest.mark.audit
def test_no_access_beyond_a_tensor_and_nothing_undefined(tmp_path):
    """The tests of all nets and losses once more, by code that watches every access."""
    tools = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-shared-libasan"]
    command = compiler.command()
    tools = tools if "clang" in command[0] else tools[:2]
    library = subprocess.check_output([*command, "-print-file-name=libasan.so"], text=True)
    own = {"CXX": shlex.join([*command, *tools]), "LD_PRELOAD": library.strip()}
    own |= {"XDG_CACHE_HOME": str(tmp_path), "ASAN_OPTIONS": "detect_leaks=0"}
    test = Path(__file__).with_name("test_native.py")
    call = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-k"]
    done = subprocess.run(
        [*call, "reference", test], env=os.environ | own, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "learning_dynamics").iterdir())
