"""On-chip memory of an FPGA: LUT RAM, 18 Kib block RAM, UltraRAM."""

from __future__ import annotations

from functools import lru_cache
from math import ceil

BRAM18_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
"""Depth x width of an 18 Kib block (AMD UG473 and UG573; FINN's bram_estimation uses the same table)."""
URAM_SHAPE = (4096, 72)
"""Depth x width of an UltraRAM (AMD UG573)."""
LUT_RAM_DEPTH = 64
"""Words of one six-input LUT used as memory (AMD UG474, UG574)."""
LUT_RAM_MAX_DEPTH = 128
"""Deeper memories go to blocks: beyond two LUTs a bit plus multiplexers, block RAM is the cheaper resource."""
SRL_DEPTH = 32
"""Stages of one LUT as shift register (AMD UG474)."""


@lru_cache(maxsize=65536)
def place(depth: int, width: int, uram: bool) -> tuple[int, int, int]:
    """(LUT, BRAM18, URAM) of a memory of `depth` words of `width` bits.

    UltraRAM is taken where it exists and the memory fills at least three quarters of its depth.
    """
    if depth <= 0 or width <= 0:
        return 0, 0, 0
    if depth <= LUT_RAM_MAX_DEPTH:
        return width * ceil(depth / LUT_RAM_DEPTH), 0, 0
    if uram and depth >= 0.75 * URAM_SHAPE[0]:
        return 0, 0, ceil(depth / URAM_SHAPE[0]) * ceil(width / URAM_SHAPE[1])
    return 0, min(ceil(depth / d) * ceil(width / w) for d, w in BRAM18_SHAPES), 0


def fifo_luts(depth: int, width: int) -> int:
    """LUTs of a shift-register FIFO."""
    return width * ceil(depth / SRL_DEPTH)
