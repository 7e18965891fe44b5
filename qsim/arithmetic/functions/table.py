"""Functions from a table: the entries are computed once, exactly rounded, and a run only looks them up.

A table over [low, high) has 2^address_bits entries at the midpoints of equal steps; an argument outside takes the first
or last entry (as hls4ml's activation tables). An address of as many bits as the input has makes the table exact: the
error is that of the entries, 1/2 ulp. A coarser one adds the change of the function over half a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.arithmetic.functions.exact import FUNCTIONS, apply
from qsim.arithmetic.functions.ulp import ulp
from qsim.errors import UserError
from qsim.formats import TwosComplement
from qsim.parse import parse
from qsim.spec import Spec

MAX_ADDRESS_BITS = 20


@dataclass(frozen=True)
class FunctionTable:
    """2^address_bits values of a function of `exact.FUNCTIONS` over [low, high), in an output format without a scale.

    `offset` places the argument of an entry inside its step: 1/2 the midpoint, 0 the lower edge (hls4ml).
    """

    function: str
    low: float
    high: float
    address_bits: int
    output: Spec
    offset: float = 0.5

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise UserError(f"unknown function '{self.function}': one of {', '.join(FUNCTIONS)}")
        if not 1 <= self.address_bits <= MAX_ADDRESS_BITS:
            raise UserError(f"a table has 1 to {MAX_ADDRESS_BITS} address bits, not {self.address_bits}")
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise UserError(f"a table covers a finite interval, not {self.low} to {self.high}")
        if self.output.scale is not None:
            raise UserError(f"table entries are stored in a format without a scale, not {self.output}")

    @property
    def step(self) -> float:
        return float((self.high - self.low) / 2**self.address_bits)

    @property
    def bits(self) -> int:
        """Storage of the whole table."""
        return int(self.output.bits * 2**self.address_bits)

    @cached_property
    def arguments(self) -> NDArray[np.float64]:
        return np.asarray(self.low + (np.arange(2**self.address_bits) + self.offset) * self.step)

    @cached_property
    def entries(self) -> NDArray[Any]:
        return apply(self.function, self.arguments, self.output)

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        """The entries for the elements of x; NaN is a UserError."""
        reals = np.asarray(x, np.float64)
        if np.isnan(reals).any():
            raise UserError(f"a table of {self.function} has no entry for NaN")
        address = np.floor((np.clip(reals, self.low, self.high) - self.low) / self.step)
        return np.asarray(self.entries[np.clip(address, 0, 2**self.address_bits - 1).astype(np.int64)])

    def maximum_error_ulp(self, input: Spec | str) -> float:
        """The largest error over every value of an input format of up to 16 bits, in ulp of the output, measured."""
        spec = parse(input) if isinstance(input, str) else input
        reals = input_values(spec)
        with np.errstate(all="ignore"):
            exact = np.asarray(FUNCTIONS[self.function].approximate(reals), np.float64)
        exact = np.clip(exact, self.output.element.lowest, self.output.element.largest)
        error = np.abs(self(reals) - exact) / ulp(exact, self.output.element)
        return float(error[np.isfinite(exact)].max(initial=0.0))


def exact_table(function: str, input: Spec | str, output: Spec | str) -> FunctionTable:
    """The table with one entry for every value of an int or fixed input: its error is 1/2 ulp."""
    spec, out = (parse(v) if isinstance(v, str) else v for v in (input, output))
    element = spec.element
    if not isinstance(element, TwosComplement) or spec.scale is not None:
        raise UserError(f"a table is addressed by an int or fixed number without a scale, not {spec}")
    step = 2.0**element.step_exponent
    low = element.lowest_code * step
    return FunctionTable(function, low, low + 2.0**element.bits * step, element.bits, out, offset=0.0)


def input_values(spec: Spec) -> NDArray[np.float64]:
    """Every finite value of a format of up to 16 bits."""
    from qsim.formats import values

    if spec.bits > 16 or spec.scale is not None:
        raise UserError(
            f"all values of {spec} cannot be listed: a format of up to 16 bits without a scale is needed"
        )
    return np.asarray(values(spec.element.name), np.float64)
