"""Multiply-accumulate units as a qsim.Mac says: fixed-point, exact (Kulisch) and float registers."""

from __future__ import annotations

from dataclasses import dataclass, field

from hwmodels.rtl.design import Design, Parameter, Port, instance, slug, wire
from hwmodels.rtl.elements import (
    FixedWord,
    Unpacked,
    cast_parameters,
    element_of,
    rounding_parameters,
    terms_of,
)
from hwmodels.rtl.products import lane_product, normal_form, sum_lanes, to_fixed, to_unpacked
from qsim.arithmetic.mac import Mac
from qsim.errors import UserError
from qsim.formats import Element, Fixed, Float, Integer
from qsim.parse import parse
from qsim.spec import Spec


@dataclass(frozen=True)
class MacUnit:
    """acc <= cast((first ? start : acc) + exact sum of mac.lanes products), one step a clock cycle.

    mac: product, accumulator and lanes as in qsim.Mac; the other fields at their defaults.
    terms: the most products an "exact" register sums without overflow. has_bias: `start` is an input, a code of the
    accumulator ("exact": an integer in the product's steps); otherwise sums start at zero.
    """

    weight: Spec | str
    activation: Spec | str
    mac: Mac = field(default_factory=Mac)
    terms: int = 256
    has_bias: bool = False

    def design(self) -> Design:
        """Inputs first, [start], weight and activation [lanes]; output acc."""
        weight, activation = element_of(self.weight), element_of(self.activation)
        check_mac(self.mac)
        target = None if self.mac.accumulator == "exact" else parse(self.mac.accumulator)
        if target is not None and isinstance(target.element, Float):
            lines = self._float_register(weight, activation, target)
            acc = Port("acc", target.bits)
        else:
            lines, acc = self._fixed_register(weight, activation, target)
        start = (Port("start", acc.bits, signed=acc.signed, step_exponent=acc.step_exponent),)
        if not self.has_bias:
            lines = [f"wire [{acc.bits - 1}:0] start = 0;", *lines]
        cast = self.mac.product if self.mac.product != "exact" else ""
        lanes = self.mac.lanes
        return Design(
            slug("mac", lanes if lanes > 1 else "", weight, activation, cast, self.mac.accumulator),
            f"acc <= (first ? start : acc) + {lanes} x {weight} times {activation}\n"
            f"product: {self.mac.product}, accumulator: {self.mac.accumulator}",
            (
                Port("first", 1),
                *(start if self.has_bias else ()),
                Port("weight", weight.bits, lanes),
                Port("activation", activation.bits, lanes),
            ),
            (acc,),
            "\n".join(lines),
            clocked=True,
        )

    def _fixed_register(
        self, weight: Element, activation: Element, target: Spec | None
    ) -> tuple[list[str], Port]:
        lane_lines, number = lane_product(weight, activation, self.mac.product)
        fixed_lines, word = to_fixed(number, "addend")
        lines, total = sum_lanes([*lane_lines, *fixed_lines], word, self.mac.lanes * terms_of(weight))
        if target is None:
            steps = -(-self.terms // self.mac.lanes)
            bits = total.bits + (steps - 1).bit_length() + self.has_bias
            acc = Port("acc", bits, signed=True, step_exponent=total.unit)
            return [*lines, fixed_register(total, acc)], acc
        element = target.element
        if not isinstance(element, Integer | Fixed):
            raise UserError(f"no circuit accumulates in {target}: int, fixed, float and exact can be")
        acc = Port("acc", element.bits, signed=element.signed, step_exponent=element.step_exponent)
        return [*lines, fixed_register(total, acc, target)], acc

    def _float_register(self, weight: Element, activation: Element, target: Spec) -> list[str]:
        if terms_of(weight) > 1:
            raise UserError(f"{weight} in a float accumulator has no circuit: use a fixed or exact one")
        if self.mac.product != "exact" and parse(self.mac.product).cast.overflow == "ieee":
            raise UserError(f"no circuit adds products in {self.mac.product}: they may be infinite")
        lines, number = float_addend(weight, activation, self.mac, target)
        is_rounded = self.mac.lanes == 1 and self.mac.product != "exact"
        if is_rounded and parse(self.mac.product).element == target.element:
            return [*lines, *float_register_of_codes(number, target)]
        return [*lines, *float_register(number, target)]


def check_mac(mac: Mac) -> None:
    """UserError for what the circuits do not have."""
    default = Mac()
    for name in ("order", "chunk", "chunk_accumulator", "align_bits", "saturate", "multiply"):
        if getattr(mac, name) != getattr(default, name):
            raise UserError(f"no circuit is generated for mac.{name} = {getattr(mac, name)!r}")


def fixed_register(total: FixedWord, acc: Port, target: Spec | None = None) -> str:
    """One fixed_accumulator from a word to the port `acc`; without a target it is wide enough never to overflow."""
    parameters: dict[str, Parameter] = {"ADDEND_BITS": total.bits, "ACC_BITS": acc.bits}
    if target is not None:
        parameters |= {
            "ALIGN_ADDEND": max(total.unit - acc.step_exponent, 0),
            "ALIGN_ACC": max(acc.step_exponent - total.unit, 0),
            "ACC_SIGNED": int(acc.signed),
            **cast_parameters(target),
        }
    ports = {"clk": "clk", "first": "first", "start": "start", "addend": total.name, "acc": acc.name}
    return instance("fixed_accumulator", "register", ports, parameters)


def float_addend(weight: Element, activation: Element, mac: Mac, target: Spec) -> tuple[list[str], Unpacked]:
    """Verilog of what a float register adds: one product, or the exact sum of all lanes with the sign its zero has."""
    lane_lines, number = lane_product(weight, activation, mac.product, as_float=True)
    assert isinstance(number, Unpacked)
    if mac.lanes == 1:
        return ["localparam i = 0;", *lane_lines], number
    fixed_lines, word = to_fixed(number, "addend")
    sign = f"assign negative[i] = {number.name}_sign;"
    lines, total = sum_lanes([*lane_lines, *fixed_lines, sign], word, mac.lanes)
    split, magnitude = to_unpacked(total, "magnitude")
    reduce = "|" if target.cast.rounding.kind == "floor" else "&"
    addend = Unpacked("sum", 1, magnitude.bits, 0, 0, magnitude.unit)
    return [
        wire("negative", mac.lanes),
        *lines,
        *split,
        addend.wires,
        "assign sum_exponent = 1'b0;",
        "assign sum_significand = magnitude_significand;",
        f"assign sum_sign = |magnitude_significand ? magnitude_sign : {reduce}negative;  // the sign of a zero",
    ], addend


def float_register(number: Unpacked, target: Spec) -> list[str]:
    """Verilog that brings a number into the register's form and adds it to the port `acc`."""
    element = target.element
    assert isinstance(element, Float)
    form = normal_form(number, element)
    width = max(element.mantissa + 1, number.bits) + 3
    field_bits = form["FIELD_BITS"]
    assert isinstance(field_bits, int)
    ports = {
        "exponent": f"$signed({{1'b0, {number.name}_exponent}})",
        "significand": f"{number.name}_significand",
        "field": "field",
        "normalized": "normalized",
    }
    return [
        wire("field", field_bits),
        wire("normalized", width),
        instance("float_normalize", "align", ports, {**form, "OUT_BITS": width}),
        _register(target, f"{number.name}_sign", "field", "normalized", field_bits, width),
    ]


def float_register_of_codes(number: Unpacked, target: Spec) -> list[str]:
    """The same for a number unpacked from a code of the register's own format, which needs no alignment."""
    field, significand = f"{number.name}_exponent", f"{number.name}_significand"
    return [_register(target, f"{number.name}_sign", field, significand, number.exponent_bits, number.bits)]


def _register(target: Spec, sign: str, field: str, significand: str, field_bits: int, width: int) -> str:
    element = target.element
    assert isinstance(element, Float)
    if not element.signed:
        raise UserError(f"no circuit accumulates in {target}: a signed float can be")
    parameters = rounding_parameters(target) | {"FIELD_BITS": field_bits, "WIDTH": width}
    if target.cast.overflow == "ieee":
        parameters["KEEPS_SPECIAL"] = 1
    ports = {name: name for name in ("clk", "first", "start", "acc")}
    addend = {"addend_sign": sign, "addend_field": field, "addend_significand": significand}
    return instance("float_accumulator", "register", ports | addend, parameters)
