"""Arrays of units: bit-serial lanes, the weight-stationary systolic array, and the unit that computes a layer."""

from __future__ import annotations

from dataclasses import dataclass

from hwmodels.rtl.accumulators import MacUnit
from hwmodels.rtl.design import Design, Parameter, Port, for_each_lane, instance, slug, wire
from hwmodels.rtl.elements import FixedWord, element_of, integer, integer_kind
from hwmodels.rtl.products import product_bits
from hwmodels.rtl.requantizers import Requantizer
from qsim.arithmetic.mac import Mac
from qsim.errors import UserError
from qsim.formats import Element, Fixed, Integer
from qsim.spec import Spec


@dataclass(frozen=True)
class BitSerialDot:
    """`lanes` products with the weights one bit a cycle, most significant first: done after weight.bits cycles."""

    weight: Spec | str
    activation: Spec | str
    lanes: int

    def design(self) -> Design:
        """Inputs first, weight_bits and activation [lanes]; output acc, the dot product after the last bit."""
        weight, activation = element_of(self.weight), element_of(self.activation)
        if not isinstance(weight, Integer | Fixed):
            raise UserError(f"bit-serial weights are int, uint or fixed, not {weight}")
        lines, word = _operand(activation, "a", "activation[i * {bits} +: {bits}]")
        acc = Port(
            "acc",
            product_bits(weight, activation) + (self.lanes - 1).bit_length(),
            signed=True,
            step_exponent=weight.step_exponent + word.unit,
        )
        parameters: dict[str, Parameter] = {
            "LANES": self.lanes,
            "BITS": word.bits,
            "WEIGHT_SIGNED": int(weight.signed),
            "ACC_BITS": acc.bits,
        }
        ports = {name: name for name in ("clk", "first", "weight_bits", "activations", "acc")}
        collect = f"assign activations[i * {word.bits} +: {word.bits}] = {word.name};"
        body = [
            wire("activations", self.lanes * word.bits),
            for_each_lane(self.lanes, [*lines, collect]),
            instance("bit_serial_dot", "lanes", ports, parameters),
        ]
        return Design(
            slug("bit_serial_dot", self.lanes, weight, activation),
            f"{self.lanes} x {weight} (one bit a cycle) times {activation}",
            (
                Port("first", 1),
                Port("weight_bits", 1, self.lanes),
                Port("activation", activation.bits, self.lanes),
            ),
            (acc,),
            "\n".join(body),
            clocked=True,
        )


@dataclass(frozen=True)
class ProcessingElement:
    """One cell of a weight-stationary array: partial_out <= partial_in + weight * activation_in."""

    weight: Spec | str
    activation: Spec | str
    partial_bits: int = 32

    def design(self) -> Design:
        """Inputs load, weight, activation, partial_in; outputs activation_out (with a sign bit), partial_out."""
        weight, activation = element_of(self.weight), element_of(self.activation)
        w_lines, w = _operand(weight, "w", "weight")
        a_lines, a = _operand(activation, "a", "activation")
        ports = _cell_ports(w.name, a.name, "partial_in", "activation_out", "partial_out")
        unit = w.unit + a.unit
        return Design(
            slug("pe", weight, activation, self.partial_bits),
            f"Weight-stationary processing element: {weight} times {activation}",
            (
                Port("load", 1),
                Port("weight", weight.bits),
                Port("activation", activation.bits),
                Port("partial_in", self.partial_bits, signed=True, step_exponent=unit),
            ),
            (
                Port("activation_out", a.bits, signed=True, step_exponent=a.unit),
                Port("partial_out", self.partial_bits, signed=True, step_exponent=unit),
            ),
            "\n".join(
                [
                    *w_lines,
                    *a_lines,
                    instance("weight_stationary_pe", "cell_", ports, _cell(w, a, self.partial_bits)),
                ]
            ),
            clocked=True,
        )


@dataclass(frozen=True)
class SystolicArray:
    """`rows` x `columns` of processing elements: activations enter on the left, one row each, partial sums leave below.

    The activation of row r enters r cycles after that of row 0; column c gives its sum rows + c cycles after the
    activation of row 0 entered.
    """

    weight: Spec | str
    activation: Spec | str
    rows: int
    columns: int
    partial_bits: int = 32

    def design(self) -> Design:
        """Inputs load, weight [rows * columns] row by row, activation [rows]; output sum [columns]."""
        weight, activation = element_of(self.weight), element_of(self.activation)
        w_lines, w = _operand(weight, "w", f"weight[(r * {self.columns} + c) * {{bits}} +: {{bits}}]")
        a_lines, a = _operand(activation, "a", "activation[r * {bits} +: {bits}]")
        partial = self.partial_bits

        def at(name: str, index: str, bits: int) -> str:
            return f"{name}[({index}) * {bits} +: {bits}]"

        across = [at("moving", f"r * {self.columns + 1} + c{step}", a.bits) for step in ("", " + 1")]
        down = [at("partial", f"(r{step}) * {self.columns} + c", partial) for step in ("", " + 1")]
        cell = instance(
            "weight_stationary_pe",
            "pe",
            _cell_ports(w.name, f"$signed({across[0]})", f"$signed({down[0]})", across[1], down[1]),
            _cell(w, a, partial),
        )
        columns = for_each_lane(self.columns, [*w_lines, cell], "column", "c")
        enter = [*a_lines, f"assign {at('moving', f'r * {self.columns + 1}', a.bits)} = {a.name};"]
        body = [
            wire("moving", self.rows * (self.columns + 1) * a.bits),
            wire("partial", (self.rows + 1) * self.columns * partial),
            f"assign partial[{self.columns * partial - 1}:0] = 0;",
            for_each_lane(self.rows, [*enter, columns], "row", "r"),
            f"assign sum = partial[{self.rows * self.columns * partial} +: {self.columns * partial}];",
        ]
        return Design(
            slug("systolic", f"{self.rows}x{self.columns}", weight, activation, partial),
            f"Weight-stationary array of {self.rows} x {self.columns} cells, {weight} times {activation}",
            (
                Port("load", 1),
                Port("weight", weight.bits, self.rows * self.columns),
                Port("activation", activation.bits, self.rows),
            ),
            (Port("sum", partial, self.columns, True, w.unit + a.unit),),
            "\n".join(body),
            clocked=True,
        )


@dataclass(frozen=True)
class LayerUnit:
    """`channels` MAC units on the same activations, each with a requantizer: a matrix-vector unit of a layer.

    A reduction of K takes ceil(K / mac.lanes) cycles from `first`; then `code` holds the layer's output codes.
    """

    weight: Spec | str
    activation: Spec | str
    mac: Mac
    channels: int
    requantizer: Requantizer

    def design(self) -> Design:
        """Inputs first, activation [lanes], weight [channels * lanes], start (the bias) and the requantizer's factors
        [channels], zero_point; outputs acc and code [channels].
        """
        mac = MacUnit(self.weight, self.activation, self.mac, has_bias=True).design()
        requantizer = self.requantizer.design()
        acc, factors = mac.outputs[0], [p for p in requantizer.inputs if p.name not in ("acc", "zero_point")]
        if acc.bits != requantizer.inputs[0].bits:
            raise UserError(
                f"{mac.name} has {acc.bits} bits, its requantizer takes {requantizer.inputs[0].bits}"
            )
        weight, activation = mac.inputs[2:]
        code, zero_point = requantizer.outputs[0], requantizer.inputs[-1]

        def lane(port: Port) -> str:
            return f"{port.name}[i * {port.width} +: {port.width}]"

        mac_ports = {port.name: lane(port) for port in (mac.inputs[1], weight)} | {"acc": "sum"}
        mac_ports |= {name: name for name in ("clk", "first", activation.name)}
        factor_ports = {port.name: lane(port) for port in factors}
        factor_ports |= {"acc": "sum", "zero_point": "zero_point", "code": "result"}
        return Design(
            slug("layer", self.channels, mac.name, requantizer.name),
            f"{self.channels} output channels of {mac.summary}\n{requantizer.summary}",
            (
                Port("first", 1),
                activation,
                Port(weight.name, weight.bits, self.channels * weight.lanes),
                *(
                    Port(port.name, port.bits, self.channels, port.signed)
                    for port in (mac.inputs[1], *factors)
                ),
                zero_point,
            ),
            (
                Port("acc", acc.bits, self.channels, acc.signed, acc.step_exponent),
                Port("code", code.bits, self.channels, code.signed),
            ),
            for_each_lane(
                self.channels,
                [
                    wire("sum", acc.bits, signed=True),
                    wire("result", code.bits),
                    instance(mac.name, "mac", mac_ports),
                    instance(requantizer.name, "requantizer", factor_ports),
                    f"assign {lane(acc)} = sum;",
                    f"assign {lane(code)} = result;",
                ],
                "channel",
            ),
            clocked=True,
            parts=(mac, requantizer),
        )


def _operand(element: Element, name: str, code: str) -> tuple[list[str], FixedWord]:
    if integer_kind(element) is None:
        raise UserError(
            f"an array of integer units takes int, fixed, bipolar or ternary operands, not {element}"
        )
    return integer(element, name, code.format(bits=element.bits))


def _cell(w: FixedWord, a: FixedWord, partial_bits: int) -> dict[str, Parameter]:
    return {"WEIGHT_BITS": w.bits, "ACTIVATION_BITS": a.bits, "PARTIAL_BITS": partial_bits}


def _cell_ports(
    weight: str, activation: str, partial: str, next_activation: str, next_partial: str
) -> dict[str, str]:
    return {
        "clk": "clk",
        "load": "load",
        "weight_in": weight,
        "activation_in": activation,
        "partial_in": partial,
        "activation_out": next_activation,
        "partial_out": next_partial,
    }
