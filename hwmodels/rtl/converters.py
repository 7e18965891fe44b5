"""From one format to another, and the floating adder: one rounding, every deterministic mode, special codes."""

from __future__ import annotations

from dataclasses import dataclass

from hwmodels.rtl.design import Design, Parameter, Port, instance, signed_bits, sized, slug, wire
from hwmodels.rtl.elements import (
    cast_parameters,
    float_parameters,
    integer,
    integer_kind,
    overflow_codes,
    rounding_parameters,
    unpack,
)
from hwmodels.rtl.products import cast_product, normal_form
from qsim.errors import UserError
from qsim.formats import Fixed, Float, Integer
from qsim.parse import parse
from qsim.spec import Spec


@dataclass(frozen=True)
class Converter:
    """A code of `source` (a format without scale) cast to `target`, as qsim.encode(value, target) does.

    Infinities and NaN of a float source are converted too; NaN into a format without NaN, which the emulator refuses,
    gives code 0.
    """

    source: str
    target: str

    def design(self) -> Design:
        """Input x, output y."""
        source, target = parse(self.source).element, parse(self.target)
        if parse(self.source).scale is not None or target.scale is not None:
            raise UserError(f"converter {self.source} to {self.target}: formats without scales are converted")
        element = target.element
        match source, element:
            case Float(), Float():
                lines = _float_to_float(source, target)
            case Float(), Integer() | Fixed():
                lines = _float_to_fixed(source, target)
            case _, Float() | Integer() | Fixed() if integer_kind(source):
                lines, word = integer(source, "value", "x")
                lines += cast_product(word, target, "y")
            case _:
                raise UserError(f"no circuit converts {self.source} to {self.target}")
        return Design(
            slug("convert", source, "to", target),
            f"{source} to {target}",
            (Port("x", source.bits),),
            (Port("y", element.bits, signed=element.codes_are_signed and element.signed),),
            "\n".join(lines),
        )


def _float_to_float(source: Float, target: Spec) -> list[str]:
    _, number = unpack(source, "x", "x")
    element = target.element
    assert isinstance(element, Float)
    form = normal_form(number, element)
    special = infinity_codes(target)
    parameters: dict[str, Parameter] = {
        **{f"IN_{name}": value for name, value in float_parameters(source).items()},
        "IN_TOP": sized(source.top_code, source.exponent + source.mantissa),
        "IN_INFINITY": sized(_infinity(source), source.exponent + source.mantissa),
        "IN_NAN_IS_NEGATIVE_ZERO": int(_nan_is_negative_zero(source)),
        "OFFSET": form["OFFSET"],
        "FIELD_BITS": form["FIELD_BITS"],
        **rounding_parameters(target),
        "POSITIVE_INFINITY": sized(special[0], element.bits),
        "NEGATIVE_INFINITY": sized(special[1], element.bits),
        "NAN": sized(element.nan_code or 0, element.bits),
    }
    return [instance("float_convert", "convert", {"in": "x", "out": "y"}, parameters)]


def infinity_codes(target: Spec) -> tuple[int, int]:
    """What the two infinities become in `target`."""
    element = target.element
    assert isinstance(element, Float)
    sign = 1 << element.exponent + element.mantissa
    nan = element.nan_code or 0
    if target.cast.overflow == "ieee":
        positive = element.infinity_code if element.has_infinity else nan
        return positive, sign | positive if element.has_infinity and element.signed else nan
    if target.cast.overflow == "saturate_finite" and element.has_infinity and element.signed:
        return element.infinity_code, sign | element.infinity_code
    return overflow_codes(element, target.cast)


def _infinity(element: Float) -> int:
    return element.infinity_code if element.has_infinity else 0


def _nan_is_negative_zero(element: Float) -> bool:
    return element.signed and element.has_nan and not element.has_negative_zero


def _float_to_fixed(source: Float, target: Spec) -> list[str]:
    element = target.element
    assert isinstance(element, Integer | Fixed)
    offset = -source.bias - source.mantissa - element.step_exponent
    bits = element.bits + source.mantissa + 5
    parameters: dict[str, Parameter] = {
        **float_parameters(source),
        "INFINITY": sized(_infinity(source), source.exponent + source.mantissa),
        "OFFSET": offset,
        "POSITION_BITS": signed_bits([offset, offset + (1 << source.exponent), element.bits + 2]) + 1,
        "OUT_BITS": element.bits,
    }
    cast: dict[str, Parameter] = {
        "IN_BITS": bits,
        "DROP": 2,
        "OUT_BITS": element.bits,
        **cast_parameters(target),
    }
    return [
        wire("fixed", bits, signed=True),
        instance("float_to_fixed", "align", {"code": "x", "fixed": "fixed"}, parameters),
        instance("fixed_cast", "cast", {"in": "fixed", "out": "y"}, cast),
    ]


@dataclass(frozen=True)
class Adder:
    """a + b of one float format, rounded once to the same format, as qsim.arithmetic.add does."""

    spec: str

    def design(self) -> Design:
        """Inputs a, b; output sum."""
        spec = parse(self.spec)
        element = spec.element
        if not isinstance(element, Float) or not element.signed:
            raise UserError(f"adder of {self.spec}: a signed float format is needed")
        lines: list[str] = []
        ports: dict[str, str] = {"sign": "s_sign", "field": "s_exponent", "significand": "s_significand"}
        for name in ("a", "b"):
            more, number = unpack(element, name, f"{name}")
            lines += more
            parts = number.ports(f"{name}_")
            parts[f"{name}_field"] = parts.pop(f"{name}_exponent")
            ports |= parts
        width = element.mantissa + 1
        add: dict[str, Parameter] = {
            "FIELD_BITS": element.exponent,
            "WIDTH": width,
            "ROUNDING": spec.cast.rounding.kind,
        }
        field_bits = max(element.exponent, (width + 4).bit_length()) + 3
        rounding: dict[str, Parameter] = {
            "IN_BITS": width + 4,
            "EXPONENT_BITS": element.exponent + 1,
            "OFFSET": 1,
            "FIELD_BITS": field_bits,
            **rounding_parameters(spec),
        }
        lines += [
            wire("s_sign", 1),
            wire("s_exponent", element.exponent),
            wire("s_significand", width + 4),
            instance("float_add", "add", ports, add),
            instance(
                "float_round",
                "round",
                {
                    "sign": "s_sign",
                    "exponent": "$signed({1'b0, s_exponent})",
                    "significand": "s_significand",
                    "code": "sum",
                },
                rounding,
            ),
        ]
        inputs = (Port("a", element.bits), Port("b", element.bits))
        name = slug("add", spec)
        return Design(
            name, f"a + b, rounded to {spec}", inputs, (Port("sum", element.bits),), "\n".join(lines)
        )
