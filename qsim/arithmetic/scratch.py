"""Memory that is used again from call to call: fresh pages cost more than the arithmetic that fills them."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST_KEPT_BYTES = 1 << 26


class _Kept(threading.local):
    """One buffer for each use, per thread."""

    def __init__(self) -> None:
        self.buffers: dict[str, NDArray[np.uint8]] = {}


_kept = _Kept()


def scratch(use: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array of unspecified contents, the caller's until it, or anything it calls, asks for the same `use` again."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > _LARGEST_KEPT_BYTES:
        return np.empty(shape, dtype)
    buffer = _kept.buffers.get(use)
    if buffer is None or len(buffer) < size:
        buffer = _kept.buffers[use] = np.empty(size, np.uint8)
    return buffer[:size].view(dtype).reshape(shape)


def zeros(use: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """`scratch`, filled with zeros."""
    array = scratch(use, shape, dtype)
    array[...] = 0
    return array


def converted(use: str, x: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """`x` in another element type, in its own memory order; `x` itself where it has that type."""
    if x.dtype == dtype:
        return x
    is_transposed = x.ndim > 1 and np.swapaxes(x, -1, -2).flags.c_contiguous
    source = np.swapaxes(x, -1, -2) if is_transposed else x
    copy = scratch(use, source.shape, dtype)
    np.copyto(copy, source, casting="unsafe")
    return np.swapaxes(copy, -1, -2) if is_transposed else copy
