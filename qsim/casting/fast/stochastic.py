"""Random bits of one element, given or drawn, as the loops ask for them by flat index."""

from __future__ import annotations

from typing import Any

import numpy as np

from qsim.casting.fast.bits import kernel
from qsim.casting.fast.modes import Seeded
from qsim.casting.random_bits import MULTIPLIER0, MULTIPLIER1

_M0, _M1 = np.uint32(MULTIPLIER0), np.uint32(MULTIPLIER1)
_15, _16 = np.uint32(15), np.uint32(16)


@kernel
def seeded_bits(index: int, source: Seeded) -> Any:
    """The bits of element `index` < 2^32, as qsim.casting.random_bits.seeded_bits has them."""
    # Every intermediate is cut to 32 bits: numba would go on in 64 and halve the vector width.
    h = np.uint32(np.uint32(index) ^ source.key0)
    h = np.uint32(h ^ np.uint32(h >> _16))
    h = np.uint32(h * _M0)
    h = np.uint32(h ^ np.uint32(h >> _15))
    h = np.uint32(h + source.key1)
    h = np.uint32(h * _M1)
    h = np.uint32(h ^ np.uint32(h >> _16))
    return np.uint32(h >> source.shift)
