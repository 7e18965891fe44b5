"""Executed instructions of CMSIS-NN kernels from the shape of a layer.

A kernel is a few nested loops, so its instructions are counts of what the loops visit times fitted constants: inner
products, requantized results, elements copied to the im2col buffer, loop remainders, calls.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwmodels.workload import Shape

Terms = dict[str, float]


@dataclass(frozen=True)
class KernelCall:
    """One layer as CMSIS-NN sees it. kind: conv, dwconv or fc; reduction: products an output (kernel area for dwconv);
    area: kernel height x width; vectors: output pixels, or rows of a batch.
    """

    kind: str
    macs: int
    vectors: int
    outputs: int
    reduction: int
    area: int
    kernel_rows: int
    is_pointwise: bool


def kernel_call(shape: Shape) -> KernelCall:
    """The kernel that runs a layer: grouped convolutions run as convolutions, matrix products as fully connected."""
    kind = {"depthwise": "dwconv", "conv": "conv", "transposed_conv": "conv"}.get(shape.kind, "fc")
    area = shape.kernel[0] * shape.kernel[1]
    pointwise = area == 1 and shape.stride == (1, 1)
    return KernelCall(
        *(kind, shape.macs, shape.vectors, shape.outputs, shape.reduction, area, shape.kernel[0], pointwise)
    )


def instruction_terms(call: KernelCall) -> Terms:
    """Loop counts by fitted constant."""
    results = float(call.vectors * call.outputs)
    if call.kind == "dwconv":
        left = (call.outputs % 4) * call.vectors * call.area
        return {
            "macs": call.macs,
            "results": results,
            "vectors": call.vectors,
            "left_channels": left,
            "calls": 1.0,
        }
    if call.kind == "fc":
        left = call.reduction * (call.outputs % 4) * call.vectors
        return {
            "macs": call.macs,
            "results": results,
            "left_products": results * (call.reduction % 4),
            "left_outputs": left,
            "vector_elements": call.reduction * call.vectors,
            "calls": float(call.vectors),
        }
    copied = 0.0 if call.is_pointwise else float(call.vectors * call.reduction)
    return {
        "macs": call.macs,
        "results": results,
        "copied": copied,
        "copied_rows": 0.0 if call.is_pointwise else float(call.vectors * call.kernel_rows),
        "vectors": call.vectors,
        "left_products": results * (call.reduction % 4),
        "left_outputs": call.vectors / 2 * call.reduction * (call.outputs % 2),
        "left_vector": (call.vectors % 2) * call.macs / call.vectors,
        "calls": 1.0,
    }
