"""Orthogonal matrices: Hadamard in blocks, and random ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def hadamard(size: int) -> Array:
    """Sylvester's Hadamard matrix of a power-of-two size, scaled to be orthogonal (and symmetric); float64."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    if len(matrix) != size:
        raise ValueError(f"no Hadamard matrix of size {size} here: it is not a power of two")
    return matrix / np.sqrt(size)


def block_sizes(channels: int, block: int | None) -> list[int]:
    """Powers of two that add up to `channels`: the largest that divides it, over and over, or `block`s and a rest."""
    if block is None:
        block = channels & -channels
    sizes = [block] * (channels // block)
    rest = channels % block
    while rest:  # the rest of a ragged last block, largest part first
        sizes.append(1 << (rest.bit_length() - 1))
        rest -= sizes[-1]
    return sizes


def block_diagonal(blocks: list[Array]) -> Array:
    """One matrix with `blocks` along its diagonal."""
    size = sum(len(block) for block in blocks)
    matrix, start = np.zeros((size, size)), 0
    for block in blocks:
        matrix[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return matrix


def randomized_hadamard(channels: int, block: int | None, rng: np.random.Generator) -> Array:
    """Blocks of Hadamard matrices whose rows have random signs."""
    matrix = block_diagonal([hadamard(size) for size in block_sizes(channels, block)])
    return rng.choice([-1.0, 1.0], channels)[:, None] * matrix


def random_orthogonal(size: int, rng: np.random.Generator) -> Array:
    """Uniform over all orthogonal matrices (QR of a Gaussian matrix, signs as Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return np.asarray(q * np.sign(np.diagonal(r)))


def keeping_ones(size: int, rng: np.random.Generator) -> Array:
    """A random orthogonal matrix that maps the vector of ones to itself, so that means stay means."""
    ones = np.ones((size, 1)) / np.sqrt(size)
    basis, _ = np.linalg.qr(np.hstack([ones, rng.standard_normal((size, size - 1))]))
    inner = np.eye(size)
    inner[1:, 1:] = random_orthogonal(size - 1, rng)
    return np.asarray(basis @ inner @ basis.T)
