"""Integer-only inference: layers that take and give integer codes, and the loop that runs a whole plan of them.

affine       what codes stand for: element, scale, zero point
accumulate   exact int32 sums: matrix product, convolution, transposed convolution
layers       convolution, fully connected, matrix product with bias and requantization
elementwise  sums, products, changes of scale         pooling   averages, maxima, reductions
unary        clamps, slopes, tables                   softmax   fixed point, as LiteRT
run          a graph and an integer plan, on codes    convert   a fake-quantized plan made integer only
"""

from __future__ import annotations

from qsim.arithmetic.integer.affine import Affine
from qsim.arithmetic.integer.convert import to_integer_only
from qsim.arithmetic.integer.run import affine_of, check_integer_only, is_integer_only, run_integer

__all__ = ["Affine", "affine_of", "check_integer_only", "is_integer_only", "run_integer", "to_integer_only"]
