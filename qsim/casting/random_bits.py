"""The bits that stochastic rounding draws from a seed: a hash of (seed, flat index), nothing hidden.

Element i of an array (C order of its logical shape, whatever its memory layout) gets the top k bits of

    h = i mod 2^32 ^ key0;  h ^= h >> 16;  h *= 0x7feb352d;  h ^= h >> 15;  h += key1;  h *= 0x846ca68b;  h ^=
    h >> 16

in unsigned 32-bit arithmetic (the mixing steps and constants are Chris Wellons' lowbias32, keyed twice),
where key0 and key1 are the low and the high half of splitmix64(seed + (i // 2^32)) (Steele, Lea and Flood
2014). So backend, layout and thread count cannot matter, and any part of an array can be computed alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.errors import UserError

_MASK64 = (1 << 64) - 1
MULTIPLIER0 = 0x7FEB352D
MULTIPLIER1 = 0x846CA68B


def keys(seed: int, segment: int = 0) -> tuple[int, int]:
    """(key0, key1), each of 32 bits, for the elements segment * 2^32 <= i < (segment + 1) * 2^32."""
    if not isinstance(seed, int | np.integer):
        raise UserError(f"a seed is an integer, not {seed!r}")
    z = (int(seed) + segment + 0x9E3779B97F4A7C15) & _MASK64
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK64
    z ^= z >> 31
    return z & 0xFFFFFFFF, z >> 32


def seeded_bits(seed: int, shape: tuple[int, ...], bits: int) -> NDArray[np.uint32]:
    """Uniform integers of `bits` (1 to 32) random bits, an array of `shape`."""
    size = int(np.prod(shape, dtype=np.int64))
    result = np.empty(size, dtype=np.uint32)
    for start in range(0, size, 1 << 32):
        part = result[start : start + (1 << 32)]
        part[:] = np.arange(len(part), dtype=np.uint32)
        _mix(part, *keys(seed, start >> 32))
    return (result >> np.uint32(32 - bits)).reshape(shape)


def _mix(h: NDArray[np.uint32], key0: int, key1: int) -> None:
    h ^= np.uint32(key0)
    h ^= h >> np.uint32(16)
    h *= np.uint32(MULTIPLIER0)
    h ^= h >> np.uint32(15)
    h += np.uint32(key1)
    h *= np.uint32(MULTIPLIER1)
    h ^= h >> np.uint32(16)
