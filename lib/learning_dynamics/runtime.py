"""What every run needs: seeded generators, argument checks, the trajectory container."""

import hashlib
import multiprocessing
import os
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from fractions import Fraction
from functools import cache, wraps
from multiprocessing.connection import wait
from numbers import Integral, Rational
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

if TYPE_CHECKING:
    import xarray

__all__ = [
    "Diverged",
    "Trajectory",
    "address",
    "all_finite",
    "as_positive",
    "check_alive",
    "check_choice",
    "check_choices",
    "check_generators",
    "check_held",
    "check_instance",
    "check_integer",
    "check_positive",
    "check_shapes",
    "check_share",
    "check_tensor",
    "check_tensors",
    "end_with_parent",
    "fractions",
    "generator",
    "normal",
    "on_inputs",
    "standard_normal",
    "stream",
]


P = ParamSpec("P")
R = TypeVar("R")


class Diverged(ValueError):
    """A run has left the finite numbers.

    run, step : which, and the first step or gradient evaluation at which it was seen.
    step_size : eta, None where it is not known.
    """

    def __init__(self, run: int, step: int, step_size: float | None = None) -> None:
        eta = "" if step_size is None else f" with step_size = {step_size:g}"
        super().__init__(f"run {run} diverged at step {step}{eta}: take a smaller step")
        self.run, self.step, self.step_size = run, step, step_size

    def __reduce__(self):  # exceptions travel between processes
        return type(self), (self.run, self.step, self.step_size)


def check_alive(values: Tensor, step: int, step_size: float | Tensor) -> None:
    """Raise `Diverged` unless all values of each run (the leading dimension) are finite.

    step_size : one for all or one per run.
    """
    good = torch.isfinite(values).flatten(1).all(-1) if values.ndim > 1 else torch.isfinite(values)
    if not bool(good.all()):
        run = int((~good).nonzero()[0])
        eta = _tensor(step_size).flatten().expand(len(good))
        raise Diverged(run, step, float(eta[run]))


def generator(*seed: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator for a named seed, e.g. `generator("rank-k-saddles", 3)`.

    Equal names give equal streams; different names give independent ones (SHA-256). Names that
    would be written alike are refused: strings that hold a zero byte or read as an integer.

    >>> import torch
    >>> a, b = (torch.randn(3, generator=generator("example", 1)) for _ in range(2))
    >>> torch.equal(a, b)
    True
    """
    if not seed:
        raise ValueError("seed is empty: pass at least one integer or string")
    for part in seed:
        if isinstance(part, bool) or not isinstance(part, Integral | str):
            raise ValueError(f"seed = {part!r}: each part must be an integer or a string")
        if isinstance(part, str) and ("\0" in part or re.fullmatch("0|-?[1-9][0-9]*", part)):
            raise ValueError(f"seed = {part!r}: pass whole numbers as integers, no zero bytes")
    digest = hashlib.sha256("\0".join(map(str, seed)).encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def standard_normal(count: int, source: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Independent standard normal numbers, on every processor the same; in double precision.

    `torch.randn` in single precision takes logarithm and cosine as exact as the processor's
    instructions give them (2e-6), which long training at large steps amplifies to other results.
    Its uniform numbers are transformed here in double precision, in its order: pairs in blocks of
    16 (Box and Muller), the last 16 afresh if a block is left unfinished.
    """
    if dtype != torch.float32 or count < 16:
        return normal(count, generator=source, dtype=dtype).double()

    def transformed(uniform: Tensor) -> Tensor:
        first, second = uniform.double().view(-1, 2, 8).unbind(1)
        radius, angle = (-2 * (1 - first).log()).sqrt(), 2 * torch.pi * second
        return torch.stack((radius * angle.cos(), radius * angle.sin()), 1).flatten()

    uniform = torch.rand(count, generator=stream(source), device="cpu")
    left = count % 16
    draws = transformed(uniform[: count - left])
    if left:
        last = transformed(torch.rand(16, generator=stream(source), device="cpu"))
        draws = torch.cat((draws[: count - 16], last))
    return draws


def stream(source: torch.Generator) -> torch.Generator:
    """The generator on the CPU that draws for `source`: equal seeds, equal draws on every device.

    One on a GPU has a companion here, which begins anew when it is seeded anew.
    """
    if source.device.type == "cpu":
        return source
    own = _COMPANIONS.get(source)
    if own is None or own.initial_seed() != source.initial_seed() or source.get_offset() == 0:
        own = _COMPANIONS[source] = torch.Generator().manual_seed(source.initial_seed())
    source.set_offset(source.get_offset() + 4)  # `manual_seed` sets it to 0
    return own


_COMPANIONS: "WeakKeyDictionary[torch.Generator, torch.Generator]" = WeakKeyDictionary()


def normal(
    *shape: int,
    generator: torch.Generator,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Standard normal numbers on `device` (default: the generator's), the same on every device."""
    draws = torch.randn(shape, generator=stream(generator), dtype=dtype, device="cpu")
    return draws.to(device or generator.device)


def on_inputs(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: a tensor that `function` makes without a device is on that of its inputs."""

    @wraps(function)
    def there(*args: P.args, **options: P.kwargs) -> R:
        device = _device([*args, *options.values()])
        if device is None or device == torch.get_default_device():
            return function(*args, **options)
        with device:
            return function(*args, **options)

    return there


def _device(values: Iterable[Any]) -> torch.device | None:
    """That of the first tensor among them, or in the tuples, lists and dataclasses among them."""
    for value in values:
        if isinstance(value, Tensor):
            return value.device
        parts = vars(value).values() if is_dataclass(value) else value
        if isinstance(parts, Collection) and not isinstance(parts, str) and (d := _device(parts)):
            return d
    return None


def _tensor(value: Any, dtype: torch.dtype | None = None) -> Tensor:
    """`torch.as_tensor`, on the CPU for what is no tensor, whatever the default device is."""
    if isinstance(value, Rational) and not isinstance(value, Integral):
        value = float(value)
    return torch.as_tensor(value, dtype=dtype, device=getattr(value, "device", "cpu"))


def check_choice(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} = {value!r}: allowed are {', '.join(sorted(allowed))}")


def check_choices(name: str, values: Sequence[str], allowed: Collection[str]) -> None:
    """Raise ValueError unless all `values` are among `allowed` and none is there twice."""
    for value in values:
        check_choice(name, value, allowed)
    if len(set(values)) < len(values):
        raise ValueError(f"{name} = {tuple(values)}: each is allowed once")


def check_positive(name: str, value: float | Tensor, *, zero: bool = False) -> None:
    """Raise ValueError unless every entry of `value` is a finite number > 0 (>= 0 if `zero`)."""
    bound = ">= 0" if zero else "> 0"
    if isinstance(value, Tensor) and value.layout == torch.strided:
        check_held(name, value)  # before a message prints its numbers
    try:
        # float64: a Python float such as 1e-60 would be 0 in the default float32.
        v = _tensor(value, torch.float64 if isinstance(value, float) else None)
        good = not v.is_complex() and v.dtype != torch.bool
        good = good and bool((torch.isfinite(v) & ((v >= 0) if zero else (v > 0))).all())
    except (TypeError, RuntimeError, ValueError):
        good = False
    if not good:
        raise ValueError(f"{name} = {value!r}: must be a finite number {bound}")


def as_positive(
    name: str,
    value: float | Tensor,
    runs: int,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> Tensor:
    """`value`, one or one per run, as a tensor () or (runs,).

    Raises ValueError unless it is > 0 and finite in this dtype too: 1e-60 is 0 in float32.
    """
    check_positive(name, value)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype = {dtype!r}: allowed are torch.float32 and torch.float64")
    made, limits = _tensor(value, dtype).detach(), torch.finfo(dtype)
    if made.shape not in ((), (1,), (runs,)):
        raise ValueError(
            f"{name}: shape {tuple(made.shape)}: allowed is one number, or one for "
            f"each of {runs} runs"
        )
    if bool(((made < limits.tiny) | (made > limits.max)).any()):
        raise ValueError(
            f"{name} = {value!r}: in {dtype} allowed are {limits.tiny:.3g} to {limits.max:.3g}"
        )
    return made.to(device)


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a number above 0 and below 1."""
    check_positive(name, value)
    if not float(value) < 1:
        raise ValueError(f"{name} = {value!r}: must be below 1")


def check_integer(name: str, value: object, *, least: int = 0) -> None:
    """Raise ValueError unless `value` is an integer >= `least`, of Python or of NumPy."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} = {value!r}: must be an integer >= {least}")


def check_instance(name: str, value: object, kind: type) -> None:
    """Raise ValueError unless `value` is one of `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{name}: must be a {kind.__name__}, got {type(value).__name__}")


def check_generators(generators: object) -> None:
    """Raise ValueError unless these are random generators of torch, at least one."""
    if not isinstance(generators, Sequence) or not generators:
        raise ValueError(f"generators = {generators!r}: pass a list, one generator per run")
    for one in generators:
        check_instance("generators", one, torch.Generator)


def all_finite(value: Tensor) -> bool:
    """Whether all entries are finite: one pass and no copy where their sum is finite too."""
    return bool(torch.isfinite(value.sum())) or bool(torch.isfinite(value).all())


def check_held(name: str, value: Tensor) -> None:
    """Raise ValueError unless a dense tensor's memory holds all its numbers."""
    steps = zip(value.shape, value.stride(), strict=True)
    end = value.storage_offset() + sum((size - 1) * step for size, step in steps) + 1
    if value.numel() and end * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"{name}: shape {tuple(value.shape)}: its memory was given back or cut")


def check_tensor(name: str, value: Any, *, finite: bool = True) -> None:
    """Raise ValueError unless `value` is a dense floating tensor that holds (finite) numbers."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = f"{type(value).__name__} {getattr(value, 'dtype', '')}".strip()
        raise ValueError(
            f"{name}: must be a floating-point tensor, got {kind}; torch.as_tensor makes tensors, "
            ".double() floating-point ones"
        )
    least = 4 if finite else 2  # no linear algebra in 16 bits
    if value.layout != torch.strided or value.is_meta or value.element_size() < least:
        raise ValueError(
            f"{name}: must be a dense tensor of numbers in {'' if finite else '16, '}32 or 64 "
            f"bits, got {value.dtype}, {value.layout}, on {value.device}"
        )
    check_held(name, value)
    if finite and not all_finite(value):
        index = tuple((~torch.isfinite(value)).nonzero()[0].tolist())
        raise ValueError(f"{name}[{index}] = {float(value[index])}: all entries must be finite")


def check_tensors(**tensors: tuple[Any, str | type]) -> None:
    """Raise ValueError unless all tensors are dense, floating, finite, and fit together.

    tensors : name = (tensor, its dimensions), e.g. `units=(units, "*runs m1 coordinate")`: equal
        words stand for equal sizes, numbers for themselves, _ for any size >= 1, a first word
        with a star for leading dimensions, "..." for any of these, which broadcast together.
        "int records" is a tensor of integers. All others have the dtype and device of the first.
        name = (object, class): an instance, whose annotated tensors are checked like that.
    """
    _check_tensors(tensors, finite=True)


def check_shapes(**tensors: tuple[Any, str | type]) -> None:
    """`check_tensors` without a look at the numbers: they may be NaN or infinite."""
    _check_tensors(tensors, finite=False)


def _check_tensors(tensors: Mapping[str, tuple[Any, str | type]], finite: bool) -> None:
    sizes: dict[str, tuple[object, str]] = {}
    parts: dict[str, tuple[Any, str]] = {}
    like: tuple[str, Tensor] | None = None
    leads: dict[str, tuple[int, ...]] = {}
    for name, (value, allowed) in tensors.items():
        if isinstance(allowed, str):
            parts[name] = value, allowed
            continue
        check_instance(name, value, allowed)
        for part, kind in allowed.__annotations__.items():
            if hasattr(kind, "dim_str"):
                words = kind.dim_str.replace("*runs", "...")
                parts[f"{name}.{part}"] = getattr(value, part), words
    for name, (value, allowed) in parts.items():
        words = allowed.split()
        if words[0] == "int":
            words = words[1:]
            if not isinstance(value, Tensor) or value.dtype not in (torch.int32, torch.int64):
                kind = getattr(value, "dtype", type(value).__name__)
                raise ValueError(f"{name}: must be a tensor of integers, got {kind}")
            check_held(name, value)
        else:
            check_tensor(name, value, finite=finite)
        shape = tuple(value.shape)
        free = words[0][0] in "*."
        count = len(words) - free
        lead, tail = shape[: len(shape) - count], shape[len(shape) - count :]
        if len(shape) < count or (lead and not free) or 0 in tail:
            raise ValueError(f"{name}: shape {shape} must be ({', '.join(words)}), all >= 1")
        leads |= {name: lead} if words[0] == "..." and len(words) > 1 else {}
        for word, size in zip(words, (lead, *tail) if free else tail, strict=True):
            if word in ("_", "..."):
                continue
            usual = (int(word), "that dimension") if word.isdigit() else (size, name)
            wanted, of = sizes.setdefault(word, usual)
            if size != wanted:
                raise ValueError(f"{name}: shape {shape} has {word} = {size}, {of} has {wanted}")
        if value.is_floating_point():
            first, other = like = like or (name, value)
            if (value.dtype, value.device) != (other.dtype, other.device):
                raise ValueError(
                    f"{name}: {value.dtype} on {value.device}: allowed is {other.dtype} on "
                    f"{other.device}, as {first}; convert with .to()"
                )
    try:
        torch.broadcast_shapes(*leads.values())
    except RuntimeError:
        raise ValueError(f"leading dimensions {leads} do not fit: one run, or as many") from None


def address(name: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Where the numbers of `value` lie in memory, for compiled code, which checks nothing itself.

    Raises ValueError unless they have this shape and dtype (float32 or float64) and lie in order,
    without gaps and as a whole in memory of the CPU. The one way for an address to leave Python.
    """
    plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_neg()
    if not plain or value.dtype != dtype or dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{name}: {value.dtype}, {value.layout}, on {value.device}: allowed is "
            f"{dtype}, dense, on the CPU, for float32 and float64"
        )
    if tuple(value.shape) != tuple(shape) or not value.is_contiguous():
        raise ValueError(
            f"{name}: shape {tuple(value.shape)}, strides {value.stride()}: allowed "
            f"is {tuple(shape)}, contiguous"
        )
    check_held(name, value)
    place = value.data_ptr()
    if value.numel() and (not place or place % value.element_size()):
        raise ValueError(
            f"{name}: its address is {place}: allowed are multiples of a number's size"
        )
    return place


def fractions(name: str, values: Sequence[int | Fraction | str]) -> tuple[Fraction, ...]:
    """The values as exact fractions; ValueError naming the argument if one is no number."""
    try:
        return tuple(Fraction(a) for a in values)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(f"{name} = {values!r}: must be numbers or strings such as '1/5'") from None


def end_with_parent() -> None:
    """Let this worker process end when the process that started it is gone, even by kill -9.

    To be called in the worker, e.g. as a pool's `initializer`; elsewhere it does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        _watch_parent(parent.sentinel, os.getpid())


@cache
def _watch_parent(sentinel: int, process: int) -> None:
    """Once a process: a forked one inherits what its parent has cached."""
    started_by = os.getppid()  # under forkserver not the parent

    def watch() -> None:
        # The sentinel of a forked worker may be held open by its siblings: look at both.
        while not wait([sentinel], timeout=1.0) and os.getppid() == started_by:
            pass
        os._exit(1)

    threading.Thread(target=watch, name=f"parent of {process}", daemon=True).start()


@dataclass(frozen=True)
class Trajectory:
    """A recorded ensemble of runs.

    steps        : (records,) int64, the steps at which observables were recorded.
    step_size    : float or (runs,); time = step_size * steps.
    observables  : name -> tensor (runs, records, ...); trailing dimensions named in `dims`.
    dims         : name -> names of the trailing dimensions, e.g. ("unit",).
    diverged_at  : (runs,) int64, first step with a non-finite loss, -1 if none. Observables
                   of a diverged run are NaN from there on.
    stopped_at   : (runs,) int64, step at which a stop condition froze the run, -1 if none.
    final        : the final state (model-specific, e.g. `saddles.two_layer.Weights`).
    units        : name -> unit of the observable ("1", "loss", "steps" ...).
    backend      : what took the steps: "torch", "native" for compiled C++, "triton", "graph".
    """

    steps: Tensor
    step_size: float | Tensor
    observables: Mapping[str, Tensor]
    dims: Mapping[str, tuple[str, ...]]
    diverged_at: Tensor
    stopped_at: Tensor
    final: Any
    units: Mapping[str, str] = field(default_factory=dict)
    backend: str = "torch"

    def __getitem__(self, name: str) -> Tensor:
        """The observable called `name`, (runs, records, ...)."""
        check_choice("observable", name, self.observables)
        return self.observables[name]

    def to_dataset(self) -> "xarray.Dataset":
        """The trajectory as an `xarray.Dataset` with dimensions run, step and those in `dims`.

        Coordinate `step` counts steps; `step_size` is a variable over runs.
        """
        import xarray  # here: most users of a run never need it

        runs = len(self.diverged_at)
        data: dict[str, tuple[Any, ...]] = {
            name: (
                ("run", "step", *self.dims.get(name, ())),
                value.detach().cpu().numpy(),
                {"units": self.units.get(name, "1")},
            )
            for name, value in self.observables.items()
        }
        step_size = torch.as_tensor(self.step_size, dtype=torch.float64).expand(runs)
        data["step_size"] = ("run", step_size.cpu().numpy(), {"units": "time per step"})
        for name in ("diverged_at", "stopped_at"):
            data[name] = ("run", getattr(self, name).cpu().numpy(), {"units": "steps"})
        return xarray.Dataset(
            data,
            coords={
                "run": range(runs),
                "step": ("step", self.steps.cpu().numpy(), {"units": "steps"}),
            },
        )
