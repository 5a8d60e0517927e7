"""The cache of compiled code: several processes, damage, machines that lack something."""

import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from learning_dynamics.activations import activation
from learning_dynamics.kernels import compiler, native
from learning_dynamics.kernels.two_layer_torch import DenseKernel
from learning_dynamics.problems import Problem
from learning_dynamics.runtime import generator
from learning_dynamics.saddles.two_layer import choose_kernel, gradient_descent, initialise

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


def test_a_shape_is_compiled_once_for_its_macros_and_processor(cache, monkeypatch):
    build()
    compiler.build(SOURCE, (*MACROS[:2], ("REAL", "float"), MACROS[3]), "native")
    if X86:
        build("x86-64-v3")
    kept = set(cache.iterdir())
    assert len(kept) == 2 + X86
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("compiled again"))
    assert build().lanes() >= 2 and set(cache.iterdir()) == kept


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
    g = generator("march")
    p = Problem(*(torch.randn(m, 37, generator=g, dtype=dtype) for m in (11, 7)))
    w = initialise((11, 9, 7), 0.3, [g], dtype=dtype)
    a, b = (
        gradient_descent(w, p, step_size=0.02, steps=9, activation=act, backend=k).final
        for k in ("native", "torch")
    )
    torch.testing.assert_close(a.w1, b.w1, rtol=0, atol=60 * torch.finfo(dtype).eps)
    torch.testing.assert_close(a.w2, b.w2, rtol=0, atol=60 * torch.finfo(dtype).eps)


DRIVER = r"""
#include "SOURCE"
#include <cstdio>
#include <initializer_list>
#include <memory>
// Exactly as many numbers as the kernels of Python hand over, each block guarded on both sides.
static std::unique_ptr<REAL[]> numbers(long count, REAL scale) {
  std::unique_ptr<REAL[]> p(new REAL[count]);
  for (long i = 0; i < count; i++) p[i] = scale * ((i * 37 % 101) / 50.0 - 1);
  return p;
}
int main() {
  double sum = 0;
  for (long runs : {1, 3}) for (long m1 : {1, 3, 4, 9}) for (long n : {1, 5, 16, 33, 128})
    for (long own : {0, 1}) for (long loss = GIVEN; loss <= CROSS_ENTROPY + LINEAR; loss++) {
      const long padded = up(n, L), wide = up(M0, L), of = own ? runs : 1, samples = M2 * padded;
      const long right = loss == MOMENTS ? M0 * wide : n * wide;
      const long left = loss == MOMENTS ? M2 * wide : samples;
      auto w1 = numbers(runs * m1 * M0, 0.1), w2 = numbers(runs * m1 * M2, 0.1);
      auto f = numbers(runs * samples, 0), work = numbers(room(runs, m1, n), NAN);
      auto eta = numbers(runs, 0), x = numbers(of * M0 * padded, 1), xt = numbers(of * right, 1);
      auto y = numbers(of * left, 1), omega = numbers(of * samples, 1);
      for (long r = 0; r < runs; r++) eta[r] = r == 1 ? 0 : 0.001 / n;
      Arguments A = {w1.get(), w2.get(), f.get(), work.get(), eta.get(), x.get(), xt.get(),
                     y.get(), omega.get(), runs, m1, n, own * M0 * padded, own * right,
                     own * left, own * samples, loss, 0.5, 0.2};
      outputs(&A);
      steps(&A, 1, 1);
      if (loss != GIVEN) steps(&A, 3, 0);
      outputs(&A);
      for (long i = 0; i < runs * m1 * M0; i++) sum += w1[i];
      for (long k = 0; k < runs * M2; k++)
        for (long j = 0; j < n; j++) sum += f[k * padded + j];
    }
  std::printf("%s\n", std::isfinite(sum) ? "finite" : "not finite");
}
"""


@pytest.mark.audit
@pytest.mark.parametrize("real", ["double", "float"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (10, 5), (33, 11)])
@pytest.mark.parametrize("kind", ["linear", "relu", "leaky"])
def test_no_access_beyond_an_array_and_nothing_undefined(tmp_path, kind, shape, real):
    source = SOURCES / f"two_layer_{'linear' if kind == 'linear' else 'relu'}.cpp"
    (tmp_path / "driver.cpp").write_text(DRIVER.replace("SOURCE", str(source)))
    macros = {"M0": shape[0], "M2": shape[1], "REAL": real}
    macros |= {"LEAKY": int(kind == "leaky"), "LINEAR": int(kind == "linear")}
    flags = [f for f in compiler.FLAGS if f not in ("-O3", "-shared")]
    flags += ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    flags += [f"-march={compiler.march()}", *(f"-D{k}={v}" for k, v in macros.items())]
    command = [*compiler.command(), *flags, "driver.cpp", "-o", "driver"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "driver"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout == "finite\n", done.stderr
