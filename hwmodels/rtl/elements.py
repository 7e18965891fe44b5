"""What a format's element is to a circuit: parameters of the library modules, and the code as a number."""

from __future__ import annotations

from dataclasses import dataclass

from hwmodels.rtl.design import Parameter, instance, signed_literal, sized, wire
from qsim.errors import UserError
from qsim.formats import AdditivePowerOfTwo, Bipolar, Element, Fixed, Float, Integer, PowerOfTwo, Ternary
from qsim.parse import parse
from qsim.spec import Cast, Spec

KEEPS_FINITE_MAXIMUM = {
    "toward_zero": (True, True),
    "to_odd": (True, True),
    "floor": (True, False),
    "ceil": (False, True),
}
"""Whether "ieee" overflow stops at the largest finite number: (positive, negative), IEEE 754-2019, 7.4."""


@dataclass(frozen=True)
class FixedWord:
    """Wire `name`: a signed word n of `bits` bits that stands for n * 2^unit."""

    name: str
    bits: int
    unit: int


@dataclass(frozen=True)
class Unpacked:
    """Wires <name>_sign, <name>_exponent, <name>_significand: (-1)^s * significand * 2^(exponent + unit)."""

    name: str
    exponent_bits: int
    bits: int
    lowest: int
    highest: int
    unit: int

    @property
    def wires(self) -> str:
        """Declarations of the three wires."""
        return "\n".join(
            (
                wire(f"{self.name}_sign", 1),
                wire(f"{self.name}_exponent", self.exponent_bits),
                wire(f"{self.name}_significand", self.bits),
            )
        )

    def ports(self, prefix: str = "") -> dict[str, str]:
        """The three wires connected to a module's ports of that prefix."""
        return {f"{prefix}{part}": f"{self.name}_{part}" for part in ("sign", "exponent", "significand")}

    @property
    def top_exponent(self) -> int:
        """log2 of the significand's top bit at exponent 0."""
        return self.unit + self.bits - 1


def element_of(spec: Spec | str) -> Element:
    """The element of a spec; block, channel and tensor scales are applied outside the multiplier."""
    return parse(spec).element if isinstance(spec, str) else spec.element


def integer_kind(element: Element) -> str | None:
    """KIND of integer_operand, or None for an element that is no integer multiple of one step."""
    match element:
        case Integer() | Fixed():
            return "two" if element.signed else "unsigned"
        case Ternary():
            return "two"
        case Bipolar():
            return "bipolar"
    return None


def integer_unit(element: Element) -> int:
    """log2 of the step of an integer or fixed-point element."""
    return element.step_exponent if isinstance(element, Integer | Fixed) else 0


def terms_of(element: Element) -> int:
    """How many products a multiplication by one number of the format takes."""
    return element.terms if isinstance(element, AdditivePowerOfTwo) else 1


def unpack(element: Element, name: str, code: str) -> tuple[list[str], Unpacked]:
    """Verilog that turns `code` into an unpacked number called `name`, and that number.

    Raises UserError for formats that are not sign, exponent and significand (codebooks, posits, e8m0).
    """
    kind = integer_kind(element)
    match element:
        case Float() if element.has_zero:
            highest = element.top_code >> element.mantissa
            number = Unpacked(
                name,
                element.exponent,
                element.mantissa + 1,
                1,
                max(highest, 1),
                -element.bias - element.mantissa,
            )
            parameters = float_parameters(element)
            return [
                number.wires,
                instance("float_unpack", f"{name}_unpack", {"code": code, **number.ports()}, parameters),
            ], number
        case PowerOfTwo() | AdditivePowerOfTwo():
            shifts = (1 << element.shift_bits) - 1
            number = Unpacked(name, element.shift_bits, 1, 0, shifts, -shifts)
            ports = {"code": code, **number.ports()}
            parameters = {"SHIFT_BITS": element.shift_bits}
            return [
                number.wires,
                instance("power_of_two_unpack", f"{name}_unpack", ports, parameters),
            ], number
    if kind is None:
        raise UserError(
            f"no circuit multiplies {element}: int, fixed, bipolar, ternary, float, pot and apot can be"
        )
    lines, word = integer(element, f"{name}_integer", code)
    number = Unpacked(name, 1, word.bits, 0, 0, word.unit)
    ports = {"value": word.name, **number.ports()}
    return [
        *lines,
        number.wires,
        instance("integer_unpack", f"{name}_unpack", ports, {"BITS": word.bits}),
    ], number


def integer(element: Element, name: str, code: str) -> tuple[list[str], FixedWord]:
    """Verilog that turns the code of an integer or fixed-point element into a signed word called `name`."""
    word = FixedWord(name, element.bits + 1, integer_unit(element))
    parameters: dict[str, Parameter] = {"BITS": element.bits, "KIND": integer_kind(element) or ""}
    lines = [wire(name, word.bits, signed=True)]
    return [
        *lines,
        instance("integer_operand", f"{name}_operand", {"code": code, "value": name}, parameters),
    ], word


def float_parameters(element: Float) -> dict[str, Parameter]:
    """Parameters of a module that reads codes of `element`; those with a default value only where they differ."""
    parameters: dict[str, Parameter] = {"EXPONENT": element.exponent, "MANTISSA": element.mantissa}
    if not element.signed:
        parameters["SIGNED"] = 0
    if not element.subnormals:
        parameters["SUBNORMALS"] = 0
    return parameters


def rounding_parameters(spec: Spec) -> dict[str, Parameter]:
    """Parameters of float_round: the format, the largest number and what lies beyond it, the rounding."""
    element = spec.element
    assert isinstance(element, Float)
    check_cast(spec)
    positive, negative = overflow_codes(element, spec.cast)
    return {
        **float_parameters(element),
        "NEGATIVE_ZERO": int(element.has_negative_zero),
        "TOP": sized(element.top_code, element.exponent + element.mantissa),
        "POSITIVE_OVERFLOW": sized(positive, element.bits),
        "NEGATIVE_OVERFLOW": sized(negative, element.bits),
        "ROUNDING": spec.cast.rounding.kind,
    }


def overflow_codes(element: Float, cast: Cast) -> tuple[int, int]:
    """Codes of finite numbers above the largest and below the lowest one."""
    sign = 1 << element.exponent + element.mantissa
    nan = element.nan_code or 0
    match cast.overflow:
        case "saturate_zero":
            return 0, 0
        case "ieee":
            positive = element.infinity_code if element.has_infinity else nan
            negative = sign | positive if element.has_infinity and element.signed else nan
            stops = KEEPS_FINITE_MAXIMUM.get(cast.rounding.kind, (False, False))
            positive = element.top_code if stops[0] else positive
            return positive, (sign | element.top_code) if stops[1] and element.signed else negative
    return element.top_code, sign | element.top_code if element.signed else 0


def check_cast(spec: Spec) -> None:
    """UserError for casts that the circuits do not have."""
    if spec.cast.rounding.is_stochastic:
        raise UserError(f"{spec}: circuits with stochastic rounding are not generated")
    if isinstance(spec.element, Float) and not spec.element.has_zero:
        raise UserError(f"{spec}: circuits that round to {spec.element} are not generated")


def cast_parameters(spec: Spec) -> dict[str, Parameter]:
    """Parameters of fixed_cast and fixed_accumulator: range, rounding and overflow of an int or fixed format."""
    element = spec.element
    assert isinstance(element, Integer | Fixed)
    check_cast(spec)
    low = element.lowest_code
    if spec.cast.overflow == "saturate_symmetric" and element.signed:
        low = -element.largest_code
    return {
        "LOW": signed_literal(low, element.bits + 1),
        "HIGH": signed_literal(element.largest_code, element.bits + 1),
        "ROUNDING": spec.cast.rounding.kind,
        "OVERFLOW": spec.cast.overflow.replace("saturate_symmetric", "saturate"),
    }
