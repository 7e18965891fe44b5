"""Makes the small golden folder beside it: `python -m tests.golden.own.make` from the project's root.

Computed by the specification in fractions (qsim.casting.reference), in the file forms of ../shared/golden, for
formats and modes that are not there. So the fast casts and the harness have something to be compared with where
../shared is absent.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from qsim.casting.reference import power_of_two_exponent, quantize_number
from qsim.parse import parse
from tests.golden.fixed import OVERFLOW, QUANTIZATION, cast_of
from tests.golden.mx import ROUNDINGS, microxcaling_element
from tests.golden.numfmt import cast_of as numfmt_cast
from tests.golden.numfmt import element_of

FOLDER = Path(__file__).parent
NUMFMT = ("e3m4_ieee", "ocp_e3m2", "e2m4_fn", "p3109_k5p2se", "p3109_k6p4uf", "e4m1_fin")
MODES = ("TiesToEven", "TiesToAway", "TowardZero", "TowardPositive", "TowardNegative", "ToOdd_own")
STOCHASTIC_MODES = ("Stochastic.k3", "StochasticOdd.k3", "StochasticFast.k3", "StochasticFastest.k3")
FIXED = ((5, 2, True), (7, -2, False), (3, 6, True))
MX = ("fp6_e3m2", "fp8_e5m2", "int4")


def write(name: str, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> int:
    source = {"source": "qsim.casting.reference (own, exact fractions)", **meta}
    path = FOLDER / name
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays, __meta__=np.array(json.dumps(source)))
    return sum(array.size for key, array in arrays.items() if key not in ("x", "table"))


def numfmt_file(name: str) -> int:
    element = parse(element_of(name)).element
    table = element.decode(np.arange(1 << element.bits))
    points = np.unique(np.abs(table[np.isfinite(table)]))
    points = np.append(points, [points[-1] * 1.25, points[-1] * 3])
    x = np.concatenate([points, (points[1:] + points[:-1]) / 2, points[:-1] * 0.7 + points[1:] * 0.3]).astype(
        np.float32
    )
    x = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), [np.inf]]).astype(np.float32)
    x = np.concatenate([x, -x, [np.nan]] if element.has_nan else [x, -x]).astype(np.float32)
    bits = np.random.default_rng(1).integers(0, 8, x.size).astype(np.uint16)
    code = {
        value: index for index, value in reversed(list(enumerate(zip(table, np.signbit(table), strict=True))))
    }
    nan = int(np.flatnonzero(np.isnan(table))[0]) if element.has_nan else -1
    arrays = {"x": x, "table": table, "srbits_k3": bits}
    for overflow in ("sat", "nosat") if element.has_nan else ("sat",):
        for mode in (*MODES, *STOCHASTIC_MODES):
            cast = parse(element_of(name) + numfmt_cast(f"{mode}.{overflow}")[0]).cast
            values = [quantize_number(float(v), element, cast, int(r)) for v, r in zip(x, bits, strict=True)]
            codes = [nan if np.isnan(v) else code[v, bool(np.signbit(v))] for v in values]
            arrays[f"{mode}.{overflow}"] = np.array(codes, dtype=element.code_dtype)
    return write(f"numfmt/round_{name}.npz", {"format": {"name": name}}, arrays)


def fixed_file(width: int, integer: int, signed: bool) -> int:
    element = parse(f"{'' if signed else 'u'}fixed{width}.{integer}").element
    steps = np.arange(-(2 ** (width + 2)), 2 ** (width + 2), 0.25)
    x = np.concatenate([steps, np.nextafter(steps[::2], np.inf)]) * element.smallest
    arrays = {"x": x}
    for quantization in QUANTIZATION:
        for overflow in OVERFLOW:
            if overflow == "WRAP_SM" and not signed:
                continue
            mode = f"{quantization}.{quantization[:2]}_{overflow}"
            cast = parse(f"{element}{cast_of(*mode.split('.'))}").cast
            values = [quantize_number(float(v), element, cast) for v in x]
            arrays[mode] = (np.array(values) / element.smallest).astype(np.int16)
    name = f"fixed/W{width}_I{integer}_{'s' if signed else 'u'}.npz"
    return write(name, {"W": width, "I": integer, "signed": signed}, arrays)


def mx_file(block: int) -> int:
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((block * 3, 12)) * 2.0 ** rng.integers(-30, 30, (1, 12))).astype(np.float32)
    x[:block, 0], x[block, 1] = 0, np.nextafter(np.float32(1024), np.float32(0))
    arrays = {"x": x}
    for name in MX:
        for rounding, cast_text in ROUNDINGS.items():
            spec = parse(microxcaling_element(name) + cast_text)
            y = np.empty_like(x)
            for start in range(0, len(x), block):
                for column in range(x.shape[1]):
                    part = x[start : start + block, column]
                    amax = Fraction(float(np.abs(part).max())) or Fraction(2) ** -126
                    scale = Fraction(2) ** max(-127, power_of_two_exponent(amax, spec.element, "floor"))
                    y[start : start + block, column] = [
                        np.copysign(quantize_number(Fraction(float(v)) / scale, spec.element, spec.cast), v)
                        * float(scale)
                        for v in part
                    ]
            arrays[f"{name}.{rounding}.noflush"] = y
    return write(f"mx/quantize_b{block}.npz", {"block_size": block, "axis": 0, "scale_bits": 8}, arrays)


def main() -> None:
    counts = {f"numfmt/round_{name}.npz": numfmt_file(name) for name in NUMFMT}
    counts |= {f"fixed/W{w}_I{i}_{'s' if s else 'u'}.npz": fixed_file(w, i, s) for w, i, s in FIXED}
    counts |= {"mx/quantize_b20.npz": mx_file(20)}
    counts |= {f"tflite/{path.name}": 0 for path in (FOLDER / "tflite").iterdir()}  # made by make_tflite.py
    index = {"files": {name: {"vectors": count} for name, count in sorted(counts.items())}}
    (FOLDER / "index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
