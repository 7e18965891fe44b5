"""Compiling a kernel: without the GIL, kept on disk, and compiled anew when any file of this package changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

_NEWEST = max(file.stat().st_mtime for file in Path(__file__).parent.glob("*.py"))
_SIZE = sum(file.stat().st_size for file in Path(__file__).parent.glob("*.py"))


def kernel(function: Callable[..., Any]) -> Any:
    """numba.njit whose cache watches the whole package: its kernels call across files, numba watches one file."""
    dispatcher: Any = njit(nogil=True, cache=True, error_model="numpy")(function)
    dispatcher._cache._cache_file._source_stamp = (_NEWEST, _SIZE)
    return dispatcher
