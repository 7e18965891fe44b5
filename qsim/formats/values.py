"""The set of numbers of a format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qsim.errors import SpecError
from qsim.formats.element import Element

if TYPE_CHECKING:
    from qsim.spec import Spec

MAX_LISTED_BITS = 24


def values(spec: str | Spec | Element) -> NDArray[np.float64]:
    """Every finite value of an element (of a spec's element, unscaled), ascending, float64, -0 and 0 as one 0.

    Raises SpecError for formats of more than 24 bits, whose values would not fit in memory.
    """
    from qsim.parse import parse

    element = spec if isinstance(spec, Element) else parse(spec).element
    if element.bits > MAX_LISTED_BITS:
        raise SpecError(
            f"{element} has 2^{element.bits} values: formats of up to {MAX_LISTED_BITS} bits are listed"
        )
    decoded = element.decode(np.arange(1 << element.bits, dtype=np.int64) + _lowest_code(element))
    return np.unique(decoded[np.isfinite(decoded)] + 0.0)


def _lowest_code(element: Element) -> int:
    return -(1 << element.bits - 1) if element.codes_are_signed and element.signed else 0
