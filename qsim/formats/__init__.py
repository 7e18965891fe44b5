"""Element formats: what one number is stored as. One frozen dataclass of facts a format, all else derived."""

from __future__ import annotations

from qsim.formats.element import Element
from qsim.formats.fixed import Fixed, Integer, TwosComplement
from qsim.formats.floating import BFLOAT16, E8M0, FLOAT16, FLOAT32, FLOAT64, TF32, Float, p3109
from qsim.formats.logarithmic import AdditivePowerOfTwo, Log2, PowerFunction, PowerOfTwo
from qsim.formats.posit import Posit
from qsim.formats.table import BINARY, Bipolar, Grid, NormalFloat4, Table, TableElement, Ternary
from qsim.formats.values import values

__all__ = [
    "BFLOAT16",
    "BINARY",
    "E8M0",
    "FLOAT16",
    "FLOAT32",
    "FLOAT64",
    "TF32",
    "AdditivePowerOfTwo",
    "Bipolar",
    "Element",
    "Fixed",
    "Float",
    "Grid",
    "Integer",
    "Log2",
    "NormalFloat4",
    "Posit",
    "PowerFunction",
    "PowerOfTwo",
    "Table",
    "TableElement",
    "Ternary",
    "TwosComplement",
    "p3109",
    "values",
]
