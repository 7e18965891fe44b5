"""Pairs of (layer, specs) that a target prices in a second of processor time.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.costs [TARGET]

repeated: 100,000 pairs of ResNet-8's layers and integers of 2 to 8 bits, 490 of them different. distinct: 250 layer
shapes x 20 formats of weights x 20 of activations, all different. first: nothing is cached, so every circuit that
occurs is priced by its unit model; again: circuits are known, pairs are not (Target.layer_costs keeps no pairs).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from itertools import product

import pandas  # noqa: F401  or the first call would count the import of the table's library

import hwmodels
from qsim import parse
from qsim.graph import Layer
from qsim.spec import Spec
from tests.hwmodels.test_targets import RESNET8, conv, linear

COUNT = 100_000
INTEGERS = [parse(f"int{bits}@tensor:float32") for bits in range(2, 9)]
OTHERS = (
    *(
        "uint4@tensor:float32",
        "uint8@tensor:float32",
        "int4@channel:float32",
        "fixed8.2",
        "int16",
        "bfloat16",
    ),
    *("e4m3fn", "e5m2", "e2m1fn", "e3m2fn", "mxfp4", "mxfp8_e4m3", "mxint8"),
)
Pair = tuple[Layer, Spec, Spec]


def repeated() -> list[Pair]:
    pairs = list(product(RESNET8, INTEGERS, INTEGERS))
    return (pairs * (COUNT // len(pairs) + 1))[:COUNT]


def distinct() -> list[Pair]:
    sizes = product((8, 16, 24, 32, 48), (16, 32, 48, 64, 96), (8, 16, 32), (1, 3, 5))
    layers = [conv(f"{ci}x{co}x{size}x{k}", size, ci, co, kernel=k) for ci, co, size, k in sizes]
    layers += [
        linear(f"{i}x{o}", i, o) for i, o in product((64, 128, 256, 320, 490), (10, 64, 128, 256, 512))
    ]
    formats = [*INTEGERS, *map(parse, OTHERS)]
    return list(product(layers, formats, formats))


def rate(target: hwmodels.Target, pairs: Sequence[Pair]) -> float:
    """Pairs a second of processor time."""
    layers, weights, inputs = (list(column) for column in zip(*pairs))
    start = time.process_time()
    target.layer_costs(layers, weights, inputs, inputs, [None] * len(pairs))
    return len(pairs) / (time.process_time() - start)


def main(name: str = "fpga_zcu104") -> None:
    target = hwmodels.load_target(name)
    runs = {"distinct, first": distinct(), "distinct, again": distinct(), "repeated": repeated()}
    for title, pairs in runs.items():
        print(f"{name}: {len(pairs):,} pairs, {title}: {rate(target, pairs):,.0f} a second")


if __name__ == "__main__":
    main(*sys.argv[1:2])
