"""Integer polynomials: the errors their docstring states, over every code of 8 and 16 bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erfc

from qsim.arithmetic.functions import ibert
from qsim.arithmetic.integer import Affine
from qsim.errors import UserError
from qsim.formats import Integer

SCALES = (2.0**-14, 2.0**-11, 0.0007, 2.0**-8, 0.01, 2.0**-5, 0.1, 2.0**-3, 0.5, 3.0)


@pytest.mark.parametrize("bits", [8, 16])
def test_exp_is_within_its_stated_error(bits: int) -> None:
    for scale in SCALES:
        q = -np.arange(2**bits)
        error = np.abs(ibert.exp(q, scale) / 2.0**15 - np.exp(q * scale))
        assert error.max() <= 1.95e-3, scale


@pytest.mark.parametrize("bits", [8, 16])
def test_gelu_is_within_its_stated_error(bits: int) -> None:
    step = 2.0**-14
    q = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)).astype(f"int{bits}")
    for scale in SCALES:
        ours = ibert.gelu(q, input=Affine(Integer(bits), scale), output=Affine(Integer(24), step)) * step
        x = q * float(np.float32(scale))
        exact = np.clip(0.5 * x * erfc(-x / math.sqrt(2)), -(2.0**23) * step, (2.0**23 - 1) * step)
        assert np.abs(ours - exact).max() <= 1.85e-2 + step / 2, scale


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20))
def test_sqrt_is_the_floor(numbers: list[int]) -> None:
    assert ibert.sqrt(numbers).tolist() == [math.isqrt(n) for n in numbers]


def test_sqrt_of_every_16_bit_number_and_around_squares() -> None:
    n = np.concatenate(
        [np.arange(2**16), *(np.arange(1, 40000, 7, dtype=np.int64) ** 2 + d for d in (-1, 0, 1))]
    )
    assert ibert.sqrt(n).tolist() == [math.isqrt(int(v)) for v in n]


@given(st.integers(1, 300), st.sampled_from([2.0**-5, 0.05, 0.125, 0.5]), st.integers(0, 2**32 - 1))
def test_softmax_is_within_its_stated_error(length: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = rng.integers(-128, 128, (20, length)).astype(np.int8) // int(rng.integers(1, 30))
    ours = ibert.softmax(
        q, input=Affine(Integer(8), scale), output=Affine(Integer(8, False), 2.0**-8)
    ).astype(int)
    x = q * float(np.float32(scale))
    exact = np.exp(x - x.max(axis=-1, keepdims=True))
    exact /= exact.sum(axis=-1, keepdims=True)
    assert np.abs(ours - np.minimum(exact * 256, 255)).max() <= 1.25


@given(st.integers(2, 300), st.sampled_from([8, 16]), st.integers(0, 2**32 - 1))
def test_layer_norm_is_within_its_stated_error(length: int, bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    amplitude = int(rng.integers(1, 2 ** (bits - 1)))
    q = rng.integers(-amplitude, amplitude + 1, (20, length))
    gain, offset = rng.uniform(0.5, 1.5, length), rng.normal(0, 0.3, length)
    output = Affine(Integer(8), 2.0**-5)
    ours = ibert.layer_norm(q, gain, offset, input=Affine(Integer(bits), 0.1), output=output).astype(int)
    constant = (q == q[:, :1]).all(axis=-1, keepdims=True)
    deviation = np.where(constant, 1.0, q.std(axis=-1, keepdims=True))
    exact = np.where(constant, 0.0, (q - q.mean(axis=-1, keepdims=True)) / deviation) * gain + offset
    assert np.abs(ours - np.clip(exact * 32, -128, 127)).max() <= 1.25


def test_user_errors() -> None:
    with pytest.raises(UserError, match="at most 0"):
        ibert.exp([1], 0.1)
    with pytest.raises(UserError, match=r"scales of 2\^-14"):
        ibert.exp([-1], 1e-9)
    with pytest.raises(UserError, match="scale 2\\^-8"):
        ibert.softmax(
            np.zeros(3, np.int8), input=Affine(Integer(8), 0.1), output=Affine(Integer(8, False), 0.1)
        )
    with pytest.raises(UserError, match="at least 0"):
        ibert.sqrt([-1])
