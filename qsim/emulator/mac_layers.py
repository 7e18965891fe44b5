"""Multiply-accumulate layers in the units of their number systems: exact sums, rounded once.

Where the activation has one scale and the weight one an output channel, a layer is computed on unscaled
elements: integers, or minifloats, all multiples of a known quantum. If the largest possible sum is at most
2^24 quanta then float32 holds every partial sum exactly, in any order; up to 2^53 float64 does. The finished
sum, bias included where it is stored in the accumulator's units, is rounded to float32 and multiplied by the
float32 product of the scales: QLinearConv's arithmetic (ONNX) without its output cast, which the next
tensor's spec does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from qsim.arithmetic.kernels.survey import survey
from qsim.arithmetic.mac import Mac
from qsim.casting import quantize
from qsim.emulator.mac_unit import accumulate
from qsim.emulator.operators import apply
from qsim.emulator.tensors import Operand, TensorCaster
from qsim.plan import Arithmetic, BitPlan

if TYPE_CHECKING:
    from qsim.graph import Graph, Layer, Node

Values = Sequence[torch.Tensor | None]
OUTPUT_CHANNEL_AXIS = {"Conv": 1, "ConvTranspose": 1, "Gemm": -1, "MatMul": -1}


class LayerRunner:
    """Runs one node: MAC layers by the plan's arithmetic, everything else in float32."""

    def __init__(
        self, graph: Graph, plan: BitPlan | None, arithmetic: Arithmetic, caster: TensorCaster
    ) -> None:
        self._graph = graph
        self._layers = {layer.node: layer for layer in graph.layers}
        self._plan = plan
        self._exact = plan is not None and arithmetic == "exact"
        self._caster = caster
        self._arithmetic: dict[str, str] = {}

    def __call__(self, node: Node, values: Values) -> tuple[torch.Tensor, ...]:
        layer = self._layers.get(node.name)
        if layer is None:
            return apply(node, values)
        if self._exact and node.op in OUTPUT_CHANNEL_AXIS and _is_plain(node):
            return (self._multiply_accumulate(layer, node, values),)
        return self._in_float32(layer, node, values)

    def has_run(self, layer: str) -> bool:
        """Whether the layer was computed at all (a run that reuses another leaves out what is the same)."""
        return layer in self._arithmetic

    def arithmetic_of(self, layer: str) -> str:
        """How the sums of a layer were formed (LayerTrace.arithmetic)."""
        return self._arithmetic.get(layer, "float32")

    def _in_float32(self, layer: Layer, node: Node, values: Values) -> tuple[torch.Tensor, ...]:
        self._arithmetic[layer.name] = "float32"
        return apply(node, values)

    def _multiply_accumulate(self, layer: Layer, node: Node, values: Values) -> torch.Tensor:
        a, b = values[0], values[1]
        assert a is not None and b is not None
        (first, _), (second, axes) = (self._caster.source(name) for name in node.inputs[:2])
        x, w = self._caster.operand(first, a), self._caster.operand(second, b, axes)
        mac = self._mac_of(layer)
        if mac != Mac():
            return self._by_unit(layer, node, mac, x or _as_is(a), w or _as_is(b), values[2:])
        if first is None or second is None:
            return self._in_float32(layer, node, values)[0]
        bias = values[2] if len(values) > 2 else None
        if x is None or w is None:
            return self._dequantized(layer, node, a, b, bias)
        return self._in_units(layer, node, x, w, bias)

    def _dequantized(
        self, layer: Layer, node: Node, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Operands whose scales vary inside a sum: exact where the bits that they do have fit in float64."""
        left, right = survey(a.detach().cpu().numpy()), survey(b.detach().cpu().numpy())
        reach = left.largest * _largest_norm(node, b)
        is_exact = reach * 2.0 ** -(left.lowest_bit + right.lowest_bit) <= 2.0**53
        self._note(layer, "exact (float64)" if is_exact else "float64")
        total = (
            _sum(layer, node, a, b, torch.float64) if is_exact else apply(node, (a.double(), b.double()))[0]
        )
        result = total.float()
        return result if bias is None else result + _along(bias, OUTPUT_CHANNEL_AXIS[node.op], result.ndim)

    def _note(self, layer: Layer, arithmetic: str) -> None:
        """What is not exact in one batch is not exact."""
        if self._arithmetic.get(layer.name) != "float64":
            self._arithmetic[layer.name] = arithmetic

    def _mac_of(self, layer: Layer) -> Mac:
        return self._plan.layers[layer.name].mac if self._plan and layer.name in self._plan.layers else Mac()

    def _by_unit(
        self, layer: Layer, node: Node, mac: Mac, x: Operand, w: Operand, bias: Values
    ) -> torch.Tensor:
        """The sum as the plan's unit forms it: from the bias on, in units of the product of the scales.

        The bias is what the accumulator can hold of it: it is cast to the accumulator's format first.
        """
        axis, scale = _output_axis(layer, node), _output_scale(layer, node, x, w)
        start = bias[0] if bias else None
        if start is not None:
            codes = self._caster.bias_codes(str(node.inputs[2]), scale)
            start = (
                codes if codes is not None else start.double() if scale is None else start.double() / scale
            )
            start = start if mac.accumulator == "exact" else quantize(start.double(), mac.accumulator)
        total = accumulate(layer, node, mac, x.units, w.units, start).float()
        text = " ".join(f"{key}={value}" for key, value in mac.to_dict().items())
        self._arithmetic[layer.name] = f"mac {text}"
        return total if scale is None else total * _along(scale, axis, total.ndim)

    def _in_units(
        self, layer: Layer, node: Node, x: Operand, w: Operand, bias: torch.Tensor | None
    ) -> torch.Tensor:
        axis, scale = _output_axis(layer, node), _output_scale(layer, node, x, w)
        codes = None if bias is None else self._caster.bias_codes(str(node.inputs[2]), scale)
        # A weight's bound is its largest L1 norm already; an activation as second operand is bounded K times.
        terms = layer.reduction_length if layer.kind == "matmul" else 1
        quanta = x.bound * w.bound * terms / (x.quantum * w.quantum)
        quanta += 0.0 if codes is None else float(codes.abs().max()) / (x.quantum * w.quantum)
        dtype = torch.float32 if quanta <= 2.0**24 else torch.float64
        self._note(layer, _describe(quanta))
        total = _sum(layer, node, x.units, w.units, dtype)
        if codes is not None:
            total += _along(codes.to(total), axis, total.ndim)
        result = total.float()
        if scale is not None:
            result *= _along(scale, axis, result.ndim)
        if bias is not None and codes is None:
            result += _along(bias, axis, result.ndim)
        return result


def _sum(layer: Layer, node: Node, x: torch.Tensor, w: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The sums of products in `dtype`, without bias."""
    if dtype == torch.float64 and node.op == "Conv" and layer.groups == 1 and x.device.type == "cpu":
        return accumulate(
            layer, node, Mac(), x, w, None
        )  # torch's float64 convolution takes three times as long
    return apply(node, (x.to(dtype), w.to(dtype)))[0]


def _largest_norm(node: Node, w: torch.Tensor) -> float:
    """The largest sum of magnitudes that one output multiplies its inputs by."""
    if not w.numel():
        return 0.0
    axes = tuple(range(1, w.ndim)) if node.op == "Conv" else (-1 if node.get("transB", 0) else -2,)
    axes = (0, *range(2, w.ndim)) if node.op == "ConvTranspose" else axes
    return float(w.double().abs().sum(axes).max())


def _describe(quanta: float) -> str:
    if quanta <= 2.0**24:
        return "exact (float32)"
    return "exact (float64)" if quanta <= 2.0**53 else "float64"


def _as_is(value: torch.Tensor) -> Operand:
    """An operand in float32, or whose scales vary inside a sum: its values enter the unit as they are."""
    return Operand(value, None, 0.0, float("inf"))


def _output_axis(layer: Layer, node: Node) -> int:
    """The axis of a layer's result that its weight's output channels make: rows where the weight stands on the left."""
    is_left = layer.kind == "linear" and layer.input != node.inputs[0]
    return -2 if is_left else OUTPUT_CHANNEL_AXIS[node.op]


def _output_scale(layer: Layer, node: Node, x: Operand, w: Operand) -> torch.Tensor | None:
    """The product of the scales, for every output; groups of a transposed convolution repeat those of its weight."""
    scale = _product(x.scale, w.scale)
    repeats = layer.groups if node.op == "ConvTranspose" else 1
    return scale if scale is None or scale.numel() == 1 else scale.repeat(repeats)


def _product(a: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a * b


def _along(vector: torch.Tensor, axis: int, ndim: int) -> torch.Tensor:
    """A scalar as it is, a vector along `axis` of an array of `ndim` axes."""
    return (
        vector
        if vector.numel() == 1
        else vector.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])
    )


def _is_plain(node: Node) -> bool:
    return float(node.get("alpha", 1.0)) == 1.0 and float(node.get("beta", 1.0)) == 1.0
