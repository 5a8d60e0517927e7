"""Arguments that a function's annotations rule out are refused by name, in users' runs as well.

Run-time type checks are on in tests only: they are slow and speak the language of types. `checked`
reads the same annotations and says in one sentence which argument is wrong, before the numbers of a
wrong one travel through a computation. It is for functions that are called once per analysis, not
for those inside a loop.
"""

import functools
import inspect
import math
from collections.abc import Callable
from numbers import Integral, Real
from types import UnionType
from typing import Any, Union, get_args, get_origin

import torch
from torch import Tensor

from learning_dynamics.runtime import (
    all_finite,
    check_alike,
    check_finite,
    check_floating,
    check_held,
)

__all__ = ["checked"]


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with its arguments checked against its annotations.

    Tensors annotated with jaxtyping: floating and finite (`Float`) or integer (`Int`), number of
    dimensions, no empty dimension, equal sizes under equal names within one call, floating ones of
    one dtype on one device (unless a number would do, too, as for a step size). Numbers: finite;
    integers: integers; instances of the package's classes: instances. What a number may be beyond
    that (positive, at most k) stays with the function. Raises ValueError naming the argument.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{function.__name__}: {error}") from None
        sizes: dict[str, tuple[int, str]] = {}
        alike: dict[str, Tensor] = {}
        for name, value in bound.arguments.items():
            _check(name, value, signature.parameters[name].annotation, sizes, alike)
        if alike:
            check_alike(alike)
        return function(*args, **kwargs)

    return wrapper


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _check(
    name: str,
    value: Any,
    annotation: Any,
    sizes: dict[str, tuple[int, str]],
    alike: dict[str, Tensor],
) -> None:
    kinds = _kinds(annotation)
    tensors = [kind for kind in kinds if hasattr(kind, "dim_str")]
    if value is None and type(None) in kinds:
        return
    if isinstance(value, Tensor):
        if tensors:
            _check_tensor(name, value, tensors[0], sizes)
            if value.is_floating_point() and float not in kinds:
                alike[name] = value
            return
        if Tensor in kinds:
            return
    elif tensors and len(kinds) - (type(None) in kinds) == len(tensors):
        raise ValueError(f"{name}: must be a tensor, got {type(value).__name__}")
    classes = tuple(
        kind for kind in kinds if inspect.isclass(kind) and not hasattr(kind, "dim_str")
    )
    if len(classes) < len(kinds) - len(tensors) or any(get_origin(k) for k in kinds):
        return  # a sequence, a callable: left to the function
    _check_plain(name, value, classes, sizes, alike)


def _check_plain(
    name: str,
    value: Any,
    classes: tuple[type, ...],
    sizes: dict[str, tuple[int, str]],
    alike: dict[str, Tensor],
) -> None:
    if bool in classes or not classes:
        return
    if isinstance(value, bool):
        good = False
    elif float in classes and isinstance(value, Real):
        good = math.isfinite(value)
    elif int in classes and isinstance(value, Integral):
        good = True
    else:
        good = isinstance(value, classes) and not isinstance(value, float)
    if not good:
        wanted = " or ".join(
            {
                float: "a finite number",
                int: "an integer",
                str: "a string",
                Tensor: "a tensor",
                type(None): "None",
            }.get(kind, f"a {kind.__name__}")
            for kind in classes
        )
        raise ValueError(f"{name} = {value!r}: must be {wanted}")
    for part, kind in getattr(type(value), "__annotations__", {}).items():
        inner = getattr(value, part, None)
        if isinstance(inner, Tensor) and hasattr(kind, "dim_str"):
            _check_tensor(f"{name}.{part}", inner, kind, sizes, infinite=True)
            if inner.is_floating_point():
                alike[f"{name}.{part}"] = inner


def _check_tensor(
    name: str,
    value: Tensor,
    annotation: Any,
    sizes: dict[str, tuple[int, str]],
    infinite: bool = False,
) -> None:
    """infinite : a result handed on may hold +-inf (a saddle that is never left)."""
    if any(kind.startswith("float") for kind in annotation.dtypes):
        if not value.is_meta:  # a tensor without data has no entries to look at
            check_floating(name, value)
            copy = infinite and not all_finite(value)
            check_finite(name, value.nan_to_num(torch.nan, 0, 0) if copy else value)
    elif value.is_floating_point() or value.is_complex():
        raise ValueError(f"{name}: must not be a floating-point tensor, got {value.dtype}")
    elif (value.dtype == torch.bool) != ("bool" in annotation.dtypes):
        raise ValueError(f"{name}: must be a tensor of {annotation.dtypes[0]}, got {value.dtype}")
    else:
        check_held(name, value)
    words = annotation.dim_str.split()
    free = any(word.startswith("*") or word == "..." for word in words)
    names = [word for word in words if not (word.startswith("*") or word == "...")]
    if not names:
        return
    if value.ndim < len(names) or (not free and value.ndim > len(names)):
        raise ValueError(f"{name}: shape {tuple(value.shape)} must be ({', '.join(words)})")
    for word, size in zip(names, value.shape[value.ndim - len(names) :], strict=True):
        if size == 0:
            raise ValueError(f"{name}: shape {tuple(value.shape)} has nothing along {word!r}")
        if word.isidentifier() and word != "_":
            other, first = sizes.setdefault(word, (size, name))
            if other != size:
                raise ValueError(
                    f"{name}: shape {tuple(value.shape)} has {word} = {size}, {first} has {other}"
                )
