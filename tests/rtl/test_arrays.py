"""Bit-serial lanes, systolic cells and arrays in Icarus equal integer matrix products."""

from __future__ import annotations

import numpy as np
import pytest

import qsim
from hwmodels import rtl
from qsim.arithmetic import bit_plane_matmul
from qsim.errors import UserError
from qsim.formats import Element
from tests.rtl.vectors import Array, element_of, hard_codes


def operand(element: Element, rng: np.random.Generator, *shape: int) -> tuple[Array, Array]:
    """Hard codes of a shape, and their values."""
    codes = hard_codes(element, int(np.prod(shape)), rng).reshape(shape)
    return codes, element.decode(codes)


@pytest.mark.parametrize(
    ("weight", "activation", "lanes"),
    [
        ("int4", "int4", 1),
        ("int8", "uint8", 16),
        ("uint3", "int6", 5),
        ("int2", "bipolar2", 8),
        ("fixed6.3", "fixed8.2", 4),
    ],
)
def test_bit_serial_dot_equals_the_product_of_bit_planes(weight: str, activation: str, lanes: int) -> None:
    rng = np.random.default_rng(20)
    a, b = element_of(weight), element_of(activation)
    (w, w_values), (x, x_values) = (operand(e, rng, 300, lanes) for e in (a, b))
    design = rtl.generate(rtl.BitSerialDot(weight, activation, lanes))
    planes = np.stack([w >> bit & 1 for bit in reversed(range(a.bits))], axis=1)
    vectors = {
        "first": np.tile(np.arange(a.bits) == 0, len(w)).astype(int),
        "weight_bits": planes.reshape(-1, lanes),
        "activation": np.repeat(x, a.bits, axis=0),
    }
    out = rtl.simulate(design, vectors)["acc"].reshape(len(w), a.bits)[:, -1]
    exact = qsim.matmul(x_values[:, None, :], w_values[:, :, None])[:, 0, 0]
    assert np.array_equal(np.ldexp(out.astype(float), design.outputs[0].step_exponent), exact)
    if (weight, activation) == ("int8", "uint8"):
        rows = [
            bit_plane_matmul(x_values[i : i + 1], w_values[i][:, None], b, a).item() for i in range(len(w))
        ]
        assert np.array_equal(out, rows)


@pytest.mark.parametrize(
    ("weight", "activation", "bits"),
    [("int8", "int8", 24), ("int4", "uint8", 16), ("ternary", "int4", 12), ("fixed6.2", "fixed6.2", 14)],
)
def test_processing_element(weight: str, activation: str, bits: int) -> None:
    rng = np.random.default_rng(21)
    a, b, partial = element_of(weight), element_of(activation), element_of(f"int{bits}")
    (w, w_values), (x, x_values), (p, p_values) = (operand(e, rng, 1000) for e in (a, b, partial))
    load = rng.integers(0, 2, 1000)
    load[0] = 1
    design = rtl.generate(rtl.ProcessingElement(weight, activation, bits))
    out = rtl.simulate(design, {"load": load, "weight": w, "activation": x, "partial_in": p}, warmup=1)
    held = np.maximum.accumulate(
        np.where(load, np.arange(1000), 0)
    )  # the weight loaded last, from the next cycle on
    step, first = design.outputs[0].step_exponent, slice(1, None)
    assert np.array_equal(np.ldexp(out["activation_out"].astype(float), step), x_values[first])
    unit = design.outputs[1].step_exponent
    product = np.ldexp(w_values[held[:-1]] * x_values[first], -unit)
    wrapped = (p_values[first] + product + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
    assert np.array_equal(out["partial_out"], wrapped)


@pytest.mark.parametrize(
    ("weight", "activation", "rows", "columns"),
    [("int8", "uint8", 4, 3), ("int4", "int4", 6, 5), ("binary", "int3", 3, 2)],
)
def test_systolic_array_is_a_matrix_product(weight: str, activation: str, rows: int, columns: int) -> None:
    rng, streamed = np.random.default_rng(22), 50
    a, b = element_of(weight), element_of(activation)
    (w, w_values), (x, x_values) = operand(a, rng, rows, columns), operand(b, rng, streamed, rows)
    warmup = 1 + rows + columns  # a cycle that loads the weights, then zeros until every register is defined
    cycles = warmup + streamed + rows + columns
    entering = np.zeros((cycles, rows), np.int64)
    for row in range(rows):  # row r enters r cycles late
        entering[warmup + row : warmup + row + streamed, row] = x[:, row]
    vectors = {
        "load": (np.arange(cycles) == 0).astype(int),
        "weight": np.broadcast_to(w.ravel(), (cycles, rows * columns)),
        "activation": entering,
    }
    design = rtl.generate(rtl.SystolicArray(weight, activation, rows, columns, 24))
    out = rtl.simulate(design, vectors, warmup=warmup)["sum"]
    expected = qsim.matmul(x_values, w_values)
    for column in range(columns):
        start = rows - 1 + column
        assert np.array_equal(out[start : start + streamed, column], expected[:, column])


def test_operands_without_an_integer_form_are_one_clear_error() -> None:
    for circuit in (rtl.ProcessingElement("e4m3fn", "int8"), rtl.BitSerialDot("pot2", "int8", 4)):
        with pytest.raises(UserError, match=r"e4m3fn|pot2"):
            rtl.generate(circuit)
