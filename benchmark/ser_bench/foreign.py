"""Call a stranger's code: what it raises, and what it gives that is no such thing, becomes one error that names it.

Letters: b utterances, t frames or tokens, c channels, d width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ser_bench.errors import PluginError, SerBenchError
from ser_bench.interface import Encoded, Tokens

# What torch and the libraries under it say on the CPU and on a GPU, where it is no class of its own.
_NO_MEMORY = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


@contextmanager
def calling(whose: object, doing: str) -> Iterator[None]:
    """Name the plugin in whatever is raised inside.

    An error of our family keeps its class and its words, behind the plugin's name. Running out of memory passes
    through: who caught it knows the batch.

    Args:
        whose: the plugin, such as ``audio:mine (my-plugin 1.0)``.
        doing: what it was asked for, to go between "failed" and the cause: ``to build``, ``in forward``.

    Raises:
        PluginError: anything else was raised.
    """
    try:
        yield
    except SerBenchError as error:
        said = str(error)
        raise type(error)(said if str(whose) in said else f"{whose}: {said}") from error
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        raise PluginError(
            f"{whose} failed {doing}: {one_line(error)}. Correct the plugin; --debug shows where."
        ) from error


def out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, on a GPU or on the CPU, for which torch has no class of its own."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )


def one_line(error: BaseException) -> str:
    """Return an exception's class and the first line of what it says."""
    first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def described(value: Any) -> str:
    """Return what a value is, in the words of the errors below."""
    return (
        f"{value.dtype} {list(value.shape)}".removeprefix("torch.")
        if isinstance(value, Tensor)
        else type(value).__name__
    )


def checked_frames(frames: Any, whose: object) -> Tensor:
    """Return what an audio front end gave if it is finite floating-point [t, c], t and c at least 1."""
    if not isinstance(frames, Tensor) or frames.ndim != 2 or not frames.numel() or not frames.is_floating_point():
        raise PluginError(f"{whose}: frontend gave {described(frames)}, expected floating-point frames [t, c], t >= 1.")
    bad = int((~torch.isfinite(frames)).sum())
    if bad:
        raise PluginError(f"{whose}: frontend gave {bad} of {frames.numel()} numbers that are not finite.")
    return frames


def checked_tokens(tokens: Any, whose: object) -> Tokens:
    """Return what a text front end gave if it is ``Tokens`` with int64 ids [t], t at least 1."""
    if not isinstance(tokens, Tokens):
        raise PluginError(f"{whose}: frontend gave {described(tokens)}, expected interface.Tokens(ids, truncated).")
    ids = tokens.ids
    if not isinstance(ids, Tensor) or ids.ndim != 1 or not ids.numel() or ids.dtype != torch.int64:
        raise PluginError(f"{whose}: frontend gave ids {described(ids)}, expected int64 [t], t >= 1.")
    return tokens


def checked_state(state: Any, whose: object) -> dict[str, Any]:
    """Return what ``frontend_state`` gave if a store's key can be made of it."""
    if not isinstance(state, Mapping):
        raise PluginError(f"{whose}: frontend_state gave {described(state)}, expected a mapping of names to values.")
    bad = [f"{name!r} ({described(value)})" for name, value in state.items() if not _keyable(name, value)]
    if bad:
        raise PluginError(
            f"{whose}: frontend_state holds {', '.join(bad)}; a store's key is made of tensors, numbers, strings, and "
            "lists and dicts of these. Give such values under string names."
        )
    return dict(state)


def checked_encoded(encoded: Any, inputs: Tensor, dim: int, depth: int, layers: bool, whose: object) -> Encoded:
    """Return what an encoder gave if its shapes are what its ``dim`` and ``depth`` promise.

    Args:
        encoded: what it gave.
        inputs: [b, t] or [b, t, c], what it was given.
        dim: d, which the head was built for.
        depth: transformer layers kept.
        layers: whether all states were asked for.
        whose: the plugin.
    """
    if not isinstance(encoded, Encoded):
        raise PluginError(f"{whose}: forward gave {described(encoded)}, expected interface.Encoded.")
    b, t = inputs.shape[:2]
    hidden, lengths = encoded.hidden, encoded.lengths
    if not isinstance(hidden, Tensor) or hidden.ndim != 3 or hidden.shape[0] != b or hidden.shape[1] > t:
        raise PluginError(
            f"{whose}: forward gave hidden states {described(hidden)}, expected [{b}, {t} or less, {dim}]."
        )
    if hidden.shape[2] != dim:
        raise PluginError(
            f"{whose}: forward gave states of width {hidden.shape[2]}, and its dim says {dim}, which the head was "
            "built for. Correct dim."
        )
    if not isinstance(lengths, Tensor) or lengths.shape != (b,) or lengths.is_floating_point():
        raise PluginError(f"{whose}: forward gave lengths {described(lengths)}, expected int64 [{b}].")
    if layers and encoded.layers is None:
        raise PluginError(f"{whose}: forward gave no layers though its head reads them; return Encoded.layers.")
    if layers and encoded.layers is not None:
        odd = [described(s) for s in encoded.layers if not isinstance(s, Tensor) or s.shape != hidden.shape]
        if odd or len(encoded.layers) != depth + 1:
            raise PluginError(
                f"{whose}: forward gave {len(encoded.layers)} states{' with ' + odd[0] if odd else ''}, expected "
                f"{depth + 1} (depth + 1), each {list(hidden.shape)}."
            )
    return encoded


def checked_prediction(predicted: object, rows: tuple[int, ...], whose: object) -> Tensor:
    """Return what was predicted if it is floating-point [b, 3], b being one of ``rows``."""
    shapes = [(b, 3) for b in rows]
    if not isinstance(predicted, Tensor) or predicted.shape not in shapes or not predicted.is_floating_point():
        raise PluginError(f"{whose}: forward gave {described(predicted)}, expected floating-point [{rows[0]}, 3].")
    return predicted


def _keyable(name: Any, value: Any) -> bool:
    """Tell whether ``system.digest`` takes the value under this name."""
    if isinstance(value, Mapping):
        return isinstance(name, str) and all(_keyable(n, v) and not isinstance(v, Tensor) for n, v in value.items())
    if isinstance(value, (list, tuple)):
        return isinstance(name, str) and all(_keyable("", v) and not isinstance(v, Tensor) for v in value)
    return isinstance(name, str) and (value is None or isinstance(value, (Tensor, str, int, float)))
