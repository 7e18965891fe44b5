"""Elementwise and row functions in a format, each with a stated maximum error.

exact         exp, sigmoid, tanh, gelu, gelu_tanh, silu, reciprocal, rsqrt       1/2 ulp, any format
rows          softmax, layer_norm, rms_norm                                     1/2 ulp, any format
table         any of `exact` from 2^n entries                                   1/2 ulp with an entry a value
ibert         exp, softmax, gelu, sqrt, layer_norm in integers                  as its docstring states
log2_softmax  softmax as powers of 2 or sqrt 2                                  1/2 code of the logarithm
ulp           what an ulp is, and errors in it
"""

from __future__ import annotations

from qsim.arithmetic.functions.exact import FUNCTIONS, apply
from qsim.arithmetic.functions.rows import layer_norm, rms_norm, softmax
from qsim.arithmetic.functions.table import FunctionTable, exact_table
from qsim.arithmetic.functions.ulp import error_in_ulp, ulp

__all__ = [
    "FUNCTIONS",
    "FunctionTable",
    "apply",
    "error_in_ulp",
    "exact_table",
    "layer_norm",
    "rms_norm",
    "softmax",
    "ulp",
]
