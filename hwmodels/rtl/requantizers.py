"""Requantizers of every named rule of qsim.arithmetic.requantize, and the threshold unit that can replace one."""

from __future__ import annotations

from dataclasses import dataclass

from hwmodels.rtl.design import Design, Parameter, Port, instance, slug
from hwmodels.rtl.elements import element_of, integer_kind
from qsim.errors import UserError
from qsim.formats import FLOAT32, FLOAT64, Integer
from qsim.spec import Spec

RULES = ("dyadic", "dyadic_even", "tflite_double", "tflite_single", "shift", "tflite_float", "onnx", "float")
"""The emulator's rules, and shift: dyadic with a multiplier of one."""
_SHIFT_BITS = 6


@dataclass(frozen=True)
class Requantizer:
    """code = saturate(zero_point + acc * M rounded by `rule`); see qsim.arithmetic.requantize for the rules.

    M = multiplier / 2^shift from input ports; rules tflite_float, onnx and float take M as a float code instead, rule
    shift no multiplier. multiplier_bits: of the dyadic rules; the tflite ones have 31.
    """

    rule: str
    output: Spec | str
    accumulator_bits: int = 32
    multiplier_bits: int = 16

    def design(self) -> Design:
        """Inputs acc, [multiplier], [shift], zero_point; output code."""
        element = element_of(self.output)
        if self.rule not in RULES:
            raise UserError(f"unknown requantization rule '{self.rule}': one of {', '.join(RULES)}")
        if not isinstance(element, Integer):
            raise UserError(f"a requantizer gives int or uint codes, not {element}")
        if self.rule == "tflite_double" and self.accumulator_bits != 32:
            raise UserError(f"rule tflite_double has 32-bit accumulators, not {self.accumulator_bits} bits")
        module, parameters, factors = self._module()
        inputs = (
            Port("acc", self.accumulator_bits, signed=True),
            *factors,
            Port("zero_point", element.bits, signed=element.signed),
        )
        ports = {port.name: port.name for port in inputs} | {"code": "code"}
        parameters |= {"OUT_BITS": element.bits, "OUT_SIGNED": int(element.signed)}
        return Design(
            slug("requantize", self.rule, self.accumulator_bits, self._factor_text(), element),
            f"Requantizer: rule {self.rule}, {self.accumulator_bits}-bit accumulator to {element}",
            inputs,
            (Port("code", element.bits, signed=element.signed),),
            instance(module, "requantize", ports, parameters),
        )

    def _factor_text(self) -> str:
        return f"x{self.multiplier_bits}" if self.rule.startswith("dyadic") else ""

    def _module(self) -> tuple[str, dict[str, Parameter], tuple[Port, ...]]:
        """Library module, its parameters, and the ports of the factor."""
        shift = Port("shift", _SHIFT_BITS)
        acc: dict[str, Parameter] = {"ACC_BITS": self.accumulator_bits}
        match self.rule:
            case "shift":
                return "requantize_shift", acc, (shift,)
            case "tflite_double":
                return "requantize_tflite_double", {}, (Port("multiplier", 31), shift)
            case "dyadic" | "dyadic_even" | "tflite_single":
                bits = 31 if self.rule == "tflite_single" else self.multiplier_bits
                ties = "even" if self.rule == "dyadic_even" else "up"
                parameters = acc | {"MULTIPLIER_BITS": bits, "TIES": ties}
                return "requantize_dyadic", parameters, (Port("multiplier", bits), shift)
        arithmetic = FLOAT32 if self.rule == "onnx" else FLOAT64
        parameters = acc | {
            "EXPONENT": arithmetic.exponent,
            "MANTISSA": arithmetic.mantissa,
            "BIAS": arithmetic.bias,
            "ROUNDING": "nearest_away" if self.rule == "tflite_float" else "nearest_even",
        }
        return "requantize_float", parameters, (Port("multiplier", arithmetic.bits),)


@dataclass(frozen=True)
class ThresholdUnit:
    """How many of `count` thresholds an input reaches (x >= t): any monotone requantization and activation at once."""

    input: Spec | str
    count: int

    def design(self) -> Design:
        """Inputs x, thresholds [count]; output level."""
        element = element_of(self.input)
        kind = integer_kind(element)
        if kind not in ("two", "unsigned"):
            raise UserError(f"a threshold unit takes int, uint or fixed inputs, not {element}")
        bits = self.count.bit_length()
        parameters: dict[str, Parameter] = {
            "BITS": element.bits,
            "KIND": kind,
            "COUNT": self.count,
            "OUT_BITS": bits,
        }
        signed = kind == "two"
        inputs = (
            Port("x", element.bits, signed=signed),
            Port("thresholds", element.bits, self.count, signed),
        )
        ports = {"x": "x", "thresholds": "thresholds", "level": "level"}
        return Design(
            slug("threshold", element, self.count),
            f"How many of {self.count} thresholds an {element} reaches",
            inputs,
            (Port("level", bits),),
            instance("threshold", "count", ports, parameters),
        )


@dataclass(frozen=True)
class Maximum:
    """The largest of `lanes` integers: max pooling, and the peak that a block scale is computed from."""

    input: Spec | str
    lanes: int

    def design(self) -> Design:
        """Input words [lanes]; output largest."""
        element = element_of(self.input)
        kind = integer_kind(element)
        if kind not in ("two", "unsigned"):
            raise UserError(f"a maximum takes int, uint or fixed inputs, not {element}")
        signed = kind == "two"
        parameters: dict[str, Parameter] = {"LANES": self.lanes, "BITS": element.bits, "KIND": kind}
        return Design(
            slug("maximum", self.lanes, element),
            f"Largest of {self.lanes} {element}",
            (Port("words", element.bits, self.lanes, signed),),
            (Port("largest", element.bits, signed=signed),),
            instance("maximum", "compare", {"words": "words", "largest": "largest"}, parameters),
        )
