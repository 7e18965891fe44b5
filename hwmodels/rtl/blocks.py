"""Block dot products with shared scales: MX (e8m0 scales) and NVFP4 (e4m3 scales)."""

from __future__ import annotations

from dataclasses import dataclass

from hwmodels.rtl.accumulators import float_register
from hwmodels.rtl.design import Design, Parameter, Port, instance, slug, wire
from hwmodels.rtl.elements import Unpacked, unpack
from hwmodels.rtl.products import dot, round_float, to_unpacked
from qsim.arithmetic.mac import Mac
from qsim.errors import UserError
from qsim.formats import E8M0, Float
from qsim.parse import parse
from qsim.spec import Spec


@dataclass(frozen=True)
class BlockSum:
    """One block without a rounding: the exact sum of its products, and the sum of its two e8m0 scale codes.

    The block's dot product is sum * 2^(scale - 254). decoded: as in DotUnit.
    """

    weight: str
    activation: str
    decoded: bool = False

    def design(self) -> Design:
        """Inputs weight and activation [block], weight_scale, activation_scale; outputs sum, scale."""
        weight, activation = parse(self.weight), parse(self.activation)
        block = _block(weight)
        if _block(activation) != block:
            raise UserError(f"block sum of {weight} and {activation}: their blocks must have one size")
        for spec in (weight, activation):
            if _scale_element(spec) != E8M0:
                raise UserError(f"block sum of {spec}: its scales must be e8m0, whose codes add up")
        lines, total = dot(weight.element, activation.element, block, self.decoded)
        bits = E8M0.bits + 1
        lines += [
            f"assign sum = {total.name};",
            "assign scale = {1'b0, weight_scale} + {1'b0, activation_scale};",
        ]
        return Design(
            slug("block_sum", block, weight.element, activation.element, "decoded" if self.decoded else ""),
            f"Exact sum of {block} products {weight.element} times {activation.element}, and of their scales' codes",
            (
                Port("weight", weight.bits, block),
                Port("activation", activation.bits, block),
                Port("weight_scale", E8M0.bits),
                Port("activation_scale", E8M0.bits),
            ),
            (Port("sum", total.bits, signed=True, step_exponent=total.unit), Port("scale", bits)),
            "\n".join(lines),
        )


@dataclass(frozen=True)
class BlockDot:
    """One block a cycle: acc <= cast(acc + scales * cast(exact sum of the block's products)).

    weight, activation: specs with the same block size. mac: lanes and chunk are that block size; `accumulator` is what
    the sum of a block is cast to (a float, or "exact"), `chunk_accumulator` (default: the same) the float register.
    A scale of the scales (NVFP4's per tensor) multiplies the finished result and is no part of the unit.
    decoded: as in DotUnit.
    """

    weight: str
    activation: str
    mac: Mac
    decoded: bool = False

    def design(self) -> Design:
        """Inputs first, weight and activation [block], weight_scale, activation_scale; output acc."""
        weight, activation = parse(self.weight), parse(self.activation)
        block = _block(weight)
        register = parse(self.mac.chunk_accumulator or self.mac.accumulator)
        self._check(weight, activation, register)
        lines, total = dot(weight.element, activation.element, block, self.decoded)
        more, partial = to_unpacked(total, "exact")
        lines += more
        if self.mac.accumulator != "exact":
            target = parse(self.mac.accumulator)
            lines += [wire("partial_code", target.bits), round_float(partial, target, "partial_code")]
            more, partial = unpack(target.element, "partial", "partial_code")
            lines += more
        lines.append(f"wire [{register.bits - 1}:0] start = 0;")
        for name, spec in (("weight_scale", weight), ("activation_scale", activation)):
            more, partial = _times_scale(partial, spec, name)
            lines += more
        return Design(
            slug(
                *("block_dot", weight.element, activation.element, block, self.mac.accumulator, register),
                "decoded" if self.decoded else "",
            ),
            f"acc <= (first ? 0 : acc) + scales * sum of {block} x {weight.element} times {activation.element}\n"
            f"block sums: {self.mac.accumulator}, accumulator: {register}",
            (
                Port("first", 1),
                Port("weight", weight.bits, block),
                Port("activation", activation.bits, block),
                Port("weight_scale", _scale_element(weight).bits),
                Port("activation_scale", _scale_element(activation).bits),
            ),
            (Port("acc", register.bits),),
            "\n".join([*lines, *float_register(partial, register)]),
            clocked=True,
        )

    def _check(self, weight: Spec, activation: Spec, register: Spec) -> None:
        block = _block(weight)
        if _block(activation) != block or self.mac.chunk != block or self.mac.lanes != block:
            raise UserError(
                f"block dot of {weight} and {activation}: mac.lanes and mac.chunk must be their common block size"
            )
        casts = [register] if self.mac.accumulator == "exact" else [register, parse(self.mac.accumulator)]
        if any(not isinstance(cast.element, Float) or cast.cast.rounding.kind == "floor" for cast in casts):
            raise UserError(f"block dot with {self.mac}: accumulators are floats that do not round to floor")
        if self.mac.product != "exact" or self.mac.order != "sequential" or self.mac.multiply != "exact":
            raise UserError(f"block dot with {self.mac}: products and their sum in a block are exact")


def _block(spec: Spec) -> int:
    if spec.granularity is None or len(spec.granularity.block) != 1:
        raise UserError(f"block dot: {spec} has no blocks along the reduction")
    return spec.granularity.block[0]


def _scale_element(spec: Spec) -> Float:
    assert spec.scale is not None
    if not isinstance(spec.scale.element, Float):
        raise UserError(f"block dot: scales in {spec.scale.element} have no circuit, floats and e8m0 have")
    return spec.scale.element


def _times_scale(number: Unpacked, spec: Spec, name: str) -> tuple[list[str], Unpacked]:
    """Verilog of an unpacked number times the scale in port `name`; an e8m0 scale only adds to the exponent."""
    element = _scale_element(spec)
    highest = number.highest + (255 if element == E8M0 else element.top_code >> element.mantissa)
    if element == E8M0:
        scaled = Unpacked(
            f"by_{name}", highest.bit_length(), number.bits, number.lowest, highest, number.unit - E8M0.bias
        )
        return [
            scaled.wires,
            f"assign {scaled.name}_sign = {number.name}_sign;",
            f"assign {scaled.name}_exponent = {number.name}_exponent + {name};",
            f"assign {scaled.name}_significand = {number.name}_significand;",
        ], scaled
    lines, scale = unpack(element, f"{name}_parts", name)
    scaled = Unpacked(
        f"by_{name}",
        highest.bit_length(),
        number.bits + scale.bits,
        number.lowest + scale.lowest,
        highest,
        number.unit + scale.unit,
    )
    parameters: dict[str, Parameter] = {
        "A_EXPONENT": number.exponent_bits,
        "A_BITS": number.bits,
        "B_EXPONENT": scale.exponent_bits,
        "B_BITS": scale.bits,
        "EXPONENT": scaled.exponent_bits,
    }
    ports = {**number.ports("a_"), **scale.ports("b_"), **scaled.ports()}
    return [*lines, scaled.wires, instance("unpacked_product", f"{name}_product", ports, parameters)], scaled
