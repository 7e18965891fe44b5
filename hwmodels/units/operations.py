"""The word-level operations circuits are made of, and the circuit as a bag of them with one critical path.

An operation says what is computed on how many bits; what it costs is the business of a technology (units/lut.py for
six-input look-up tables and carry chains, units/gates.py for standard cells).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Operation:
    """One word-level operation.

    kind: the word `bits` and `other` belong to
        multiply      bits x other partial products, bits >= other (variant: signed, mixed, unsigned)
        add           carry-propagate addition of two `bits`-wide words
        accumulate    register + word through a clear gate, `bits` wide, after `other` carry-save rows
        add_rows      addition merged with a product of `other` rows, `bits` wide, no clear gate
        popcount_xnor `bits` xnor gates and the first two levels of their population count
        count_ones    population count of `bits` single bits
        compare, mux, gate, any, negate, increment, register: `bits` wide
        shift         `bits` live input bits spread by `other` shift stages (see `reach`)
        normalize     leading-zero count of `bits` and the shift that removes them
        count_zeros   leading-zero count alone
    reach: output bits of a shift that are looked at (a barrel shifter cannot touch more); for accumulate and add_rows
        the bits of the product, beyond which its rows only hold copies of the sign
    """

    kind: str
    bits: int
    other: int = 0
    reach: int = 0
    variant: str = ""


@dataclass(slots=True)
class Circuit:
    """Operations with their multiplicity, and the operations on the longest register-to-register path in order."""

    operations: list[tuple[float, Operation]] = field(default_factory=list)
    path: list[Operation] = field(default_factory=list)

    def add(
        self,
        kind: str,
        bits: int,
        other: int = 0,
        *,
        reach: int = 0,
        variant: str = "",
        count: float = 1,
        on_path: bool = True,
    ) -> None:
        """Place `count` operations; `on_path` puts one of them on the critical path."""
        if bits <= 0 or count <= 0:
            return
        operation = Operation(kind, bits, other, reach, variant)
        self.operations.append((count, operation))
        if on_path:
            self.path.append(operation)
