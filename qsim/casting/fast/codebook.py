"""Any format of few values by table look-up: posits, powers of two, NF4, tables, bipolar integers...

A float32 is cut in two halves of 16 bits. The upper half (sign, exponent, 7 bits of mantissa) picks an entry; where a
decision threshold of the format falls inside that bucket, the lower half is compared with it. The table is
filled by asking the exact path, so a rounding or overflow mode needs nothing of its own here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qsim.casting.fast.bits import code_of, kernel

Evaluate = Callable[[NDArray[np.float32]], NDArray[np.float64]]

_NEVER = 0xFFFF  # a lower half is never above this


class Codebook(NamedTuple):
    """entries[upper half] = (index << 16 | limit): the value is values[index], or values[index + 1] above limit."""

    entries: NDArray[np.uint32]
    values: NDArray[Any]  # float32, or float64 where float32 does not hold them


@kernel
def look_up(value: Any, book: Codebook) -> Any:
    """The value that float32 `value` becomes."""
    code = code_of(value)
    entry = book.entries[np.uint32(code >> np.uint32(16))]
    above = (code & np.uint32(_NEVER)) > (entry & np.uint32(_NEVER))
    return book.values[np.uint32(entry >> np.uint32(16)) + above]


def build(evaluate: Evaluate) -> Codebook | None:
    """The table of the function `evaluate`, or None where some bucket holds more than one threshold.

    `evaluate` must be piecewise constant, as every deterministic cast to a format of few values is.
    """
    keys = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    first = _evaluate_codes(evaluate, keys)
    last = _evaluate_codes(evaluate, keys | np.uint32(_NEVER))
    ordered = np.stack([first, last], axis=1).ravel()
    index_of = np.concatenate([[0], np.cumsum(ordered[1:] != ordered[:-1])])
    if index_of[-1] >= 1 << 16:
        return None
    values = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    index = index_of[::2].astype(np.uint32)
    limit = np.full(1 << 16, _NEVER, np.uint32)
    split = np.flatnonzero(first != last)
    leaves = _bisect(evaluate, keys[split], lambda codes: codes != first[split])
    arrives = _bisect(evaluate, keys[split], lambda codes: codes == last[split])
    if not np.array_equal(leaves, arrives):
        return None
    limit[split] = leaves - 1
    exact = values.view(np.float64)
    narrow = exact.astype(np.float32)
    is_narrow = ((narrow == exact) | np.isnan(exact)).all()
    return Codebook(index << np.uint32(16) | limit, narrow if is_narrow else exact)


def _evaluate_codes(evaluate: Evaluate, codes: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Bits of the result for the float32 of these bits; one NaN stands for all."""
    result = evaluate(codes.view(np.float32))
    return np.where(np.isnan(result), np.nan, result).view(np.uint64)


def _bisect(
    evaluate: Evaluate, keys: NDArray[np.uint32], passed: Callable[[NDArray[np.uint64]], NDArray[np.bool_]]
) -> NDArray[np.uint32]:
    """Per bucket the smallest lower half at which `passed` holds; it does at 0xFFFF and does not at 0."""
    low = np.zeros(len(keys), np.uint32)
    high = np.full(len(keys), _NEVER, np.uint32)
    for _ in range(16):
        middle = (low + high) >> np.uint32(1)
        is_passed = passed(_evaluate_codes(evaluate, keys | middle))
        high = np.where(is_passed, middle, high)
        low = np.where(is_passed, low, middle)
    return high
