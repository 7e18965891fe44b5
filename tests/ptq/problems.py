"""Layers with correlated inputs, for tests."""

from __future__ import annotations

import numpy as np
import torch

import qsim
from qsim.ptq.calibrate import Calibration, weight_scale
from qsim.ptq.grid import Grid
from qsim.ptq.problem import LayerProblem, Moments, Rounded

FORMATS = (
    "int4@channel:float32",
    "int3@tensor:float32",
    "int2@channel:e8m0",
    "uint4+zp@channel:float32",
    "int4@block8:float16",
    "e2m1fn@channel:float32",
    "e3m2fn@tensor:float32",
    "e4m3fn",
    "posit6.1@channel:float32",
    "nf4@block16:float32",
    "mxfp4",
    "mxint8",
    "nvfp4",
    "ternary@channel:float32",
    "int4@block4x8:float32",
    "uint4+zp@block8:float16",
    "fixed8.2@tensor:float32",
    "fixed6.1",
    "pot4@channel:float32",
    "apot2x2@channel:float32",
    "power4_0.5@channel:float32",
    "nf4@block16:uint8@block64:float32",
    "bipolar2@channel:float32",
)


def correlated_rows(rows: int, groups: int, length: int, seed: int) -> np.ndarray:
    """[groups, rows, length] float32, non-negative, with a few strong directions and one dead column."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((groups, length, length)) * np.geomspace(3, 0.05, length)[:, None]
    x = np.maximum(rng.standard_normal((groups, rows, length)) @ mix + 0.3, 0)
    x[..., length // 2] = 0
    return x.astype(np.float32)


def moments_of(x: np.ndarray, q: np.ndarray) -> Moments:
    exact, cast = torch.from_numpy(x).double(), torch.from_numpy(q).double()
    rows = x.shape[1]
    return Moments(
        exact.mean(1),
        cast.mean(1),
        exact.mT @ exact / rows,
        exact.mT @ cast / rows,
        cast.mT @ cast / rows,
        rows,
    )


def layer(
    text: str, *, groups: int = 2, outputs: int = 6, length: int = 24, seed: int = 0, bits: int = 8
) -> tuple[LayerProblem, Rounded, np.ndarray, np.ndarray]:
    """A problem, its nearest rounding, and the float and quantized inputs behind it."""
    rng = np.random.default_rng(seed)
    spec = qsim.parse(text)
    matrix = rng.standard_normal((groups * outputs, length)).astype(np.float32)
    x = correlated_rows(400, groups, length, seed)
    q = qsim.quantize(x, f"uint{bits}+zp@tensor:float32")
    scale, zero_point = weight_scale(matrix, spec, Calibration())
    grid = Grid.of(spec, matrix.shape, groups, scale, zero_point)
    moments = moments_of(x, q)
    weights = torch.from_numpy(matrix).double().reshape(groups, outputs, length)
    bias = torch.from_numpy(rng.standard_normal(groups * outputs))
    problem = LayerProblem(weights, moments, moments, bias)
    return problem, Rounded(grid, grid.cast(matrix), bias), x, q
