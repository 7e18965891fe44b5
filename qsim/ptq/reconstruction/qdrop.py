"""QDrop: block-wise reconstruction with the casts of activations dropped at random.

Wei, Gong, Li, Liu, Yu, "QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-training Quantization",
ICLR 2022: in training each activation value is left uncast, and each input of a block taken from the float32
network, with probability 0.5, so that roundings serve a flatter region.
"""

from __future__ import annotations

from dataclasses import dataclass

from qsim.ptq.reconstruction.brecq import BRECQ


@dataclass(frozen=True)
class QDrop(BRECQ):
    """Options as of BRECQ, with the paper's probability."""

    drop: float = 0.5
