"""Family `torchq`: affine quantization of PyTorch, fake and real."""

from __future__ import annotations

from collections.abc import Iterator

import qsim
from tests.golden.harness import Comparison, GoldenFile, compare


def element_of(lowest: int, largest: int) -> str:
    """The integer type with this range; a range without the lowest code saturates symmetrically."""
    if lowest == 0:
        return f"uint{(largest + 1).bit_length() - 1}+zp"
    bits = (largest + 1).bit_length()
    return f"int{bits}+zp" + ("/saturate_symmetric" if lowest == -largest else "")


def check_affine(file: GoldenFile) -> Iterator[Comparison]:
    """fake_quantize multiplies by 1/scale; quantize_per_tensor fuses the zero point in, _per_channel adds it."""
    axis = file.meta["axis"]
    granularity = "tensor" if axis is None else "channel"
    spec = f"{element_of(file.meta['qmin'], file.meta['qmax'])}@{granularity}:float32"
    options = {"scale": file["scale"], "zero_point": file["zero_point"], "axis": -1 if axis is None else axis}
    ours = qsim.quantize(file["x"], spec, affine="reciprocal", **options)
    yield compare("fake_quant", ours, file["fake_quant"])
    if "q" in file:
        affine = "reciprocal_fma" if axis is None else "reciprocal_add"
        yield compare("q", qsim.encode(file["x"], spec, affine=affine, **options).codes, file["q"])


FORMS = {"torchq/*.npz": check_affine}
