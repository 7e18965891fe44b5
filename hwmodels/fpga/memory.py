"""On-chip memory of an FPGA: LUT RAM, 18 Kib block RAM, UltraRAM."""

from __future__ import annotations

import numpy as np

from hwmodels.columns import Floats

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


def place(depth: Floats, width: Floats, uram: bool) -> tuple[Floats, Floats, Floats]:
    """(LUT, BRAM18, URAM) of memories of `depth` words of `width` bits.

    UltraRAM is taken where it exists and the memory fills at least three quarters of its depth.
    """
    is_memory = (depth > 0) & (width > 0)
    in_luts = depth <= LUT_RAM_MAX_DEPTH
    in_uram = ~in_luts & (depth >= 0.75 * URAM_SHAPE[0]) & uram
    blocks = np.min([np.ceil(depth / d) * np.ceil(width / w) for d, w in BRAM18_SHAPES], axis=0)
    rams = np.ceil(depth / URAM_SHAPE[0]) * np.ceil(width / URAM_SHAPE[1])
    return (
        np.where(is_memory & in_luts, width * np.ceil(depth / LUT_RAM_DEPTH), 0.0),
        np.where(is_memory & ~in_luts & ~in_uram, blocks, 0.0),
        np.where(is_memory & in_uram, rams, 0.0),
    )


def fifo_luts(depth: Floats | float, width: Floats) -> Floats:
    """LUTs of a shift-register FIFO."""
    luts: Floats = width * np.ceil(np.asarray(depth) / SRL_DEPTH)
    return luts
