"""Compiled kernels behind `qsim.quantize`: one pass over memory, the same bits as the general path.

`quantize` answers None for what the kernels do not cover, and the caller takes the general path. Nothing here imports
numba before the first large array comes by.

    cast        one call taken apart: mode, scales, loop         segments  loops with given scales
    facts       from format and cast to a mode's scalars         blocks    loops that find the scales of blocks
    modes       what a kernel is told, as tuples of scalars      scales    scales that the call does not give
    grid        one value onto an integer or minifloat grid      threads   how many, and who does what
    codebook    one value by table look-up                       bits      bit-level primitives, the compiling decorator
    stochastic  random bits by flat index                        vectors   sixteen elements at once
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting.fast.threads import get_threads, set_threads
from qsim.spec import Spec

__all__ = ["get_threads", "quantize", "set_threads"]

SMALL = 1 << 14  # elements below which starting numba (half a second, once) is not worth it


def quantize(
    x: NDArray[Any],
    spec: Spec,
    *,
    axis: int = -1,
    scale: Any = None,
    zero_point: Any = None,
    affine: str = "divide",
    random_bits: Any = None,
    seed: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any] | None:
    """`qsim.quantize` of a checked call, or None where no kernel gives exactly its bits."""
    if not isinstance(x, np.ndarray) or x.ndim == 0 or x.size == 0 or not x.dtype.isnative:
        return None
    if x.size < SMALL and "numba" not in sys.modules:
        return None
    if spec.granularity is not None and affine != "divide":
        return None
    compiled = import_module("qsim.casting.fast.cast").quantize
    result: NDArray[Any] | None = compiled(x, spec, axis, scale, zero_point, random_bits, seed, out)
    return result
