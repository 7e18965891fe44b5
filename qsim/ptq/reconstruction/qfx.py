"""QFX: fine-tuning that also learns where the point of every fixed-point number stands.

Dai et al., "Trainable Fixed-Point Quantization for Deep Learning Acceleration on FPGAs", 2024 (arXiv 2401.17544):
of fixed<W>.<I> the width is given and the integer bits are trained. fixed<W>.<I + 1> is fixed<W>.<I> times two, so
that the position is a scale that is a power of two, learned as such a scale is (casts.LearnedScale).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qsim.ptq.reconstruction.qat import QAT


@dataclass(frozen=True)
class QFX(QAT):
    """Options as of QAT. Weights and activations in fixed<W>.<I> without scale come back as fixed<W>.<I'>; all other
    formats are fine-tuned as QAT does.
    """

    moves_points: ClassVar[bool] = True
