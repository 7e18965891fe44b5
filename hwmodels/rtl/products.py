"""Products: one multiplier, and N lanes of them summed exactly in an adder tree."""

from __future__ import annotations

from dataclasses import dataclass

from hwmodels.rtl.design import Design, Parameter, Port, for_each_lane, instance, signed_bits, slug, wire
from hwmodels.rtl.elements import (
    FixedWord,
    Unpacked,
    cast_parameters,
    element_of,
    integer,
    integer_kind,
    integer_unit,
    rounding_parameters,
    terms_of,
    unpack,
)
from qsim.errors import UserError
from qsim.formats import AdditivePowerOfTwo, Bipolar, Element, Float, PowerOfTwo
from qsim.parse import parse
from qsim.spec import Spec

Number = FixedWord | Unpacked


@dataclass(frozen=True)
class AdderTree:
    """The sum of `lanes` integers, widening by one bit a level."""

    input: Spec | str
    lanes: int

    def design(self) -> Design:
        """Input words [lanes]; output sum."""
        element = element_of(self.input)
        if integer_kind(element) != "two":
            raise UserError(f"an adder tree takes int or signed fixed inputs, not {element}")
        words = Port("words", element.bits, self.lanes, True, integer_unit(element))
        total = Port("sum", element.bits + (self.lanes - 1).bit_length(), 1, True, integer_unit(element))
        parameters: dict[str, Parameter] = {"LANES": self.lanes, "WIDTH": element.bits}
        return Design(
            slug("adder_tree", self.lanes, element),
            f"Sum of {self.lanes} {element}",
            (words,),
            (total,),
            instance("adder_tree", "tree", {"addends": "words", "sum": "sum"}, parameters),
        )


@dataclass(frozen=True)
class Multiplier:
    """weight * activation of one number each.

    product "exact": integers and fixed point, and these times powers of two, as one two's complement word; with a float
    on either side as sign, exponent and significand, not normalized. Otherwise the expression it is cast to, as in
    qsim.Mac.
    """

    weight: Spec | str
    activation: Spec | str
    product: str = "exact"

    def design(self) -> Design:
        """Inputs weight, activation; output product, or sign, exponent and significand."""
        weight, activation = element_of(self.weight), element_of(self.activation)
        if terms_of(weight) > 1:
            raise UserError(f"{weight} times one number is a sum: use DotUnit with one lane")
        to_float = self.product != "exact" and isinstance(parse(self.product).element, Float)
        lines, number = multiply(weight, activation, "weight", "activation", as_float=to_float)
        if self.product != "exact":
            lines += cast_product(number, parse(self.product), "product")
            element = parse(self.product).element
            outputs = [Port("product", element.bits, signed=element.codes_are_signed and element.signed)]
        elif isinstance(number, FixedWord):
            lines.append(f"assign product = {number.name};")
            outputs = [Port("product", number.bits, signed=True, step_exponent=number.unit)]
        else:
            parts = {"sign": 1, "exponent": number.exponent_bits, "significand": number.bits}
            lines += [f"assign {part} = {number.name}_{part};" for part in parts]
            steps = {"significand": number.unit}
            outputs = [Port(part, bits, step_exponent=steps.get(part, 0)) for part, bits in parts.items()]
        return Design(
            slug("multiplier", weight, activation, "" if self.product == "exact" else self.product),
            f"{weight} times {activation}, {self.product}",
            (Port("weight", weight.bits), Port("activation", activation.bits)),
            tuple(outputs),
            "\n".join(lines),
        )


@dataclass(frozen=True)
class DotUnit:
    """The exact sum of `lanes` products, combinational; 1-bit bipolar operands are counted instead of multiplied.

    decoded: floats are widened to integers before they are multiplied, where otherwise significands are multiplied and
    every product is shifted into place.
    """

    weight: Spec | str
    activation: Spec | str
    lanes: int
    decoded: bool = False

    def design(self) -> Design:
        """Inputs weight, activation [lanes]; output sum in fixed point."""
        weight, activation = element_of(self.weight), element_of(self.activation)
        if (
            isinstance(weight, Bipolar)
            and isinstance(activation, Bipolar)
            and weight.bits == activation.bits == 1
        ):
            total = FixedWord("sum", (self.lanes - 1).bit_length() + 2, 0)
            ports = {"a": "weight", "b": "activation", "sum": "sum"}
            lines = [instance("xnor_popcount", "count", ports, {"LANES": self.lanes})]
        else:
            lines, total = dot(weight, activation, self.lanes, self.decoded)
            lines.append(f"assign sum = {total.name};")
        return Design(
            slug("dot", self.lanes, weight, activation, "decoded" if self.decoded else ""),
            f"Exact sum of {self.lanes} products {weight} times {activation}",
            (Port("weight", weight.bits, self.lanes), Port("activation", activation.bits, self.lanes)),
            (Port("sum", total.bits, signed=True, step_exponent=total.unit),),
            "\n".join(lines),
        )


def multiply(
    weight: Element, activation: Element, weight_code: str, activation_code: str, *, as_float: bool = False
) -> tuple[list[str], Number]:
    """Verilog of one exact product called `p`; as_float keeps integers apart from their sign, which a zero may have."""
    if terms_of(activation) > 1:
        raise UserError(
            f"{activation} as an activation has no circuit: a sum of powers can only be the weight"
        )
    if integer_kind(weight) and integer_kind(activation) and not as_float:
        w_lines, w = integer(weight, "w", weight_code)
        a_lines, a = integer(activation, "a", activation_code)
        word = FixedWord("p", product_bits(weight, activation), w.unit + a.unit)
        return [
            *w_lines,
            *a_lines,
            wire("p", word.bits, signed=True),
            f"assign p = {w.name} * {a.name};",
        ], word
    if not as_float and is_power(weight) and integer_kind(activation):
        return shifted(weight, activation, weight_code, activation_code)
    if not as_float and is_power(activation) and integer_kind(weight):
        return shifted(activation, weight, activation_code, weight_code)
    w_lines, x = unpack(weight, "w", weight_code)
    a_lines, y = unpack(activation, "a", activation_code)
    highest = x.highest + y.highest
    product = Unpacked(
        "p", max(highest.bit_length(), 1), x.bits + y.bits, x.lowest + y.lowest, highest, x.unit + y.unit
    )
    parameters: dict[str, Parameter] = {
        "A_EXPONENT": x.exponent_bits,
        "A_BITS": x.bits,
        "B_EXPONENT": y.exponent_bits,
        "B_BITS": y.bits,
        "EXPONENT": product.exponent_bits,
    }
    ports = {**x.ports("a_"), **y.ports("b_"), **product.ports()}
    return [
        *w_lines,
        *a_lines,
        product.wires,
        instance("unpacked_product", "p_product", ports, parameters),
    ], product


def is_power(element: Element) -> bool:
    """Whether codes are a zero flag, a sign and a shift (of an APoT sum: each of its terms)."""
    return isinstance(element, PowerOfTwo | AdditivePowerOfTwo)


def shifted(
    power: Element, number: Element, power_code: str, number_code: str
) -> tuple[list[str], FixedWord]:
    """Verilog of a power of two times an integer, called `p`: a shift, a negation and a gate, no multiplier."""
    lines, x = unpack(power, "power", power_code)
    more, word = integer(number, "shifted_number", number_code)
    product = FixedWord("p", word.bits + x.highest, word.unit + x.unit)
    return [
        *lines,
        *more,
        wire("p_magnitude", product.bits, signed=True),
        wire("p", product.bits, signed=True),
        f"assign p_magnitude = {word.name} <<< power_exponent;",
        "assign p = power_significand ? (power_sign ? -p_magnitude : p_magnitude) : 0;",
    ], product


def product_bits(weight: Element, activation: Element) -> int:
    """Bits of the exact product of two integer elements, in two's complement."""
    step = [2.0 ** -getattr(element, "step_exponent", 0) for element in (weight, activation)]
    extremes = [
        int(x * step[0]) * int(y * step[1])
        for x in (weight.lowest, weight.largest)
        for y in (activation.lowest, activation.largest)
    ]
    return signed_bits(extremes)


def to_fixed(number: Number, name: str) -> tuple[list[str], FixedWord]:
    """Verilog that makes an exact fixed-point word called `name` of a number; a word stays as it is."""
    if isinstance(number, FixedWord):
        return [], number
    width = number.bits + number.highest - number.lowest + 1
    word = FixedWord(name, width, number.unit + number.lowest)
    parameters: dict[str, Parameter] = {
        "EXPONENT": number.exponent_bits,
        "BITS": number.bits,
        "LOWEST": number.lowest,
        "WIDTH": width,
    }
    ports = {**number.ports(), "fixed": name}
    return [
        wire(name, width, signed=True),
        instance("unpacked_to_fixed", f"{name}_shift", ports, parameters),
    ], word


def to_unpacked(word: FixedWord, name: str) -> tuple[list[str], Unpacked]:
    """Verilog that splits a word into sign and magnitude."""
    number = Unpacked(name, 1, word.bits, 0, 0, word.unit)
    ports = {"value": word.name, **number.ports()}
    return [number.wires, instance("integer_unpack", f"{name}_split", ports, {"BITS": word.bits})], number


def cast_product(number: Number, target: Spec, code: str) -> list[str]:
    """Verilog that casts a number to `target` and drives the wire `code`."""
    if isinstance(target.element, Float):
        lines, unpacked = (
            ([], number) if isinstance(number, Unpacked) else to_unpacked(number, f"{number.name}_parts")
        )
        return [*lines, round_float(unpacked, target, code)]
    lines, word = to_fixed(number, f"{number.name}_fixed")
    step = target.element.step_exponent  # type: ignore[attr-defined]
    grow = max(word.unit - step, 0)
    source = word.name if not grow else f"{{{word.name}, {grow}'d0}}"
    parameters: dict[str, Parameter] = {
        "IN_BITS": word.bits + grow,
        "DROP": max(step - word.unit, 0),
        "OUT_BITS": target.bits,
        **cast_parameters(target),
    }
    return [*lines, instance("fixed_cast", f"{code}_cast", {"in": source, "out": code}, parameters)]


def round_float(number: Unpacked, target: Spec, code: str) -> str:
    """One float_round from an unpacked number to the wire `code`."""
    element = target.element
    assert isinstance(element, Float)
    parameters: dict[str, Parameter] = {**normal_form(number, element), **rounding_parameters(target)}
    ports = number.ports() | {"exponent": f"$signed({{1'b0, {number.name}_exponent}})", "code": code}
    return instance("float_round", f"{code}_round", ports, parameters)


def normal_form(number: Unpacked, element: Float) -> dict[str, Parameter]:
    """Parameters of float_normalize and float_round that say where a number stands in the exponents of `element`."""
    offset = number.top_exponent + element.bias
    fields = (offset + number.lowest - 2 * number.bits, offset + number.highest, 1, element.mantissa + 4)
    return {
        "IN_BITS": number.bits,
        "EXPONENT_BITS": number.exponent_bits + 1,
        "OFFSET": offset,
        "FIELD_BITS": max(signed_bits([*fields, number.bits, offset]), element.exponent + 1) + 1,
    }


def dot(
    weight: Element, activation: Element, lanes: int, decoded: bool = False
) -> tuple[list[str], FixedWord]:
    """Verilog of the exact sum of products of the ports `weight` and `activation`, [lanes] each, called `total`."""
    if decoded:
        lines, word = decoded_product(weight, activation)
        return sum_lanes(lines, word, lanes)
    lines, number = lane_product(weight, activation, "exact")
    fixed_lines, word = to_fixed(number, "addend")
    return sum_lanes([*lines, *fixed_lines], word, lanes * terms_of(weight))


def decoded_product(weight: Element, activation: Element) -> tuple[list[str], FixedWord]:
    """Verilog of the product in lane `i` of two floats that are widened to integers first.

    Raises UserError for elements that are integers already or a sum of powers.
    """
    if any(integer_kind(e) or terms_of(e) > 1 for e in (weight, activation)):
        raise UserError(f"{weight} times {activation}: only floats and powers of two are decoded to integers")
    lines: list[str] = []
    words = []
    for name, port, element in (("w", "weight", weight), ("a", "activation", activation)):
        more, number = unpack(element, name, f"{port}[i * {element.bits} +: {element.bits}]")
        shifted, word = to_fixed(number, f"{name}_integer")
        lines += [*more, *shifted]
        words.append(word)
    w, a = words
    product = FixedWord("addend", w.bits + a.bits, w.unit + a.unit)
    multiply_lines = [wire("addend", product.bits, signed=True), f"assign addend = {w.name} * {a.name};"]
    return [*lines, *multiply_lines], product


def lane_product(
    weight: Element, activation: Element, product: str, *, as_float: bool = False
) -> tuple[list[str], Number]:
    """Verilog of the product in lane `i`, cast to `product`; a weight that is a sum of T powers takes T lanes."""
    terms = terms_of(weight)
    bits = weight.bits // terms
    index = "i" if terms == 1 else f"i / {terms}"
    slices = (
        f"weight[i * {bits} +: {bits}]",
        f"activation[{index} * {activation.bits} +: {activation.bits}]",
    )
    if product == "exact":
        return multiply(weight, activation, *slices, as_float=as_float)
    target = parse(product)
    lines, exact = multiply(weight, activation, *slices, as_float=isinstance(target.element, Float))
    lines += [wire("cast", target.bits), *cast_product(exact, target, "cast")]
    read = unpack if as_float or isinstance(target.element, Float) else integer
    more, number = read(target.element, "q", "cast")
    return [*lines, *more], number


def sum_lanes(lane_lines: list[str], word: FixedWord, lanes: int) -> tuple[list[str], FixedWord]:
    """Verilog that computes `word` in every lane and adds the lanes up to `total`."""
    total = FixedWord("total", word.bits + (lanes - 1).bit_length(), word.unit)
    collect = f"assign addends[i * {word.bits} +: {word.bits}] = {word.name};"
    ports = {"addends": "addends", "sum": "total"}
    return [
        wire("addends", lanes * word.bits),
        for_each_lane(lanes, [*lane_lines, collect]),
        wire("total", total.bits, signed=True),
        instance("adder_tree", "tree", ports, {"LANES": lanes, "WIDTH": word.bits}),
    ], total
