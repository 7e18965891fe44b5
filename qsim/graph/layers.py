"""The layers that multiply and accumulate, as cost models and searches see them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from qsim.graph.chains import Chain, fused_chain
from qsim.graph.folding import WEIGHT_QUANTIZERS

if TYPE_CHECKING:
    from qsim.graph.ir import Graph, Node

LayerKind = Literal["conv", "depthwise", "transposed_conv", "linear", "matmul", "recurrent"]
_BIAS_PLACE = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "QLinearConv": 8}


@dataclass(frozen=True)
class Layer:
    """One multiply-accumulate layer of a graph, for one sample.

    `weights` is a parameter, or for an attention product (`kind` "matmul") the second activation. `input_shape`
    and `output_shape` leave the batch out. `output` is the tensor after the layer's fused chain: the bias Add and
    the activation function (Relu, Clip, HardSwish, ...) that nothing else reads, the nodes named in `chain`.
    `weight_axis` is the output-channel axis of `weights`, `reduction_axes` the axes summed over, as `weights` is
    stored; `reduction_length` is K, the products per output. `added`: put in by a transform (`Graph.added`).
    """

    name: str
    kind: LayerKind
    input: str
    weights: str
    bias: str | None
    output: str
    macs: int
    node: str = ""
    weight_axis: int | None = None
    reduction_axes: tuple[int, ...] = ()
    reduction_length: int = 0
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    weight_shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    kernel: tuple[int, ...] = ()
    groups: int = 1
    parameters: int = 0
    chain: tuple[str, ...] = ()
    added: bool = False


def find_layers(graph: Graph) -> tuple[Layer, ...]:
    """The multiply-accumulate layers of `graph`, in order of execution."""
    samples = _samples(graph)
    return tuple(
        _finished(layer, graph, samples) for node in graph.nodes for layer in _layers_of(node, graph)
    )


def weight_source(graph: Graph, tensor: str) -> tuple[str, tuple[int, ...]] | None:
    """The parameter that `tensor` is a view or the quantized form of, and where its axes lie there.

    Axis i of the tensor is axis `axes[i]` of the parameter. None where the tensor hangs on an input.
    """
    axes = tuple(range(len(graph.tensors[tensor].shape)))
    while tensor not in graph.parameters:
        node = graph.producers.get(tensor)
        if node is None or not node.inputs or node.inputs[0] is None:
            return None
        if node.op == "Transpose":
            perm = node.get("perm", tuple(reversed(range(len(axes)))))
            axes = tuple(perm[axis] for axis in axes)
        elif node.op not in WEIGHT_QUANTIZERS:
            return None
        tensor = node.inputs[0]
    return tensor, axes


def _layers_of(node: Node, graph: Graph) -> list[Layer]:
    match node.op:
        case "Conv" | "ConvInteger" | "QLinearConv" | "ConvTranspose":
            return [_conv(node, graph)]
        case "Gemm" | "MatMul" | "MatMulInteger" | "QLinearMatMul":
            return [_linear(node, graph)]
        case "Einsum" if len(node.inputs) == 2:
            return [_einsum(node, graph)]
        case "LSTM" | "GRU" | "RNN":
            return _recurrent(node, graph)
    return []


def _operands(node: Node) -> tuple[str, str]:
    """Input and weights of a product; the QLinear forms have scale and zero point between them."""
    return str(node.inputs[0]), str(node.inputs[3 if node.op.startswith("QLinear") else 1])


def _conv(node: Node, graph: Graph) -> Layer:
    data, operand = _operands(node)
    source = weight_source(graph, operand)
    weight, groups = graph.sample_shapes[operand], int(node.get("group", 1))
    rank = len(weight) - 2
    kernel = weight[2:]
    stride = tuple(node.get("strides", (1,) * rank))
    out = graph.sample_shapes[node.outputs[0]]
    transposed = node.op == "ConvTranspose"
    channels = weight[0] if transposed else weight[1] * groups
    if transposed:  # every input element meets the whole kernel of its group's outputs
        macs = math.prod(graph.sample_shapes[data]) * math.prod(weight[1:])
        taps = math.prod(-(-k // s) for k, s in zip(kernel, stride, strict=True))
        length = channels // groups * taps
    else:
        length = math.prod(weight[1:])
        macs = math.prod(out) * length
    depthwise = groups > 1 and groups == channels
    axes = source[1] if source else tuple(range(len(weight)))
    channel_axis = 1 if transposed else 0
    return Layer(
        name=node.name,
        kind="transposed_conv" if transposed else "depthwise" if depthwise else "conv",
        input=data,
        weights=source[0] if source else operand,
        bias=None,
        output=node.outputs[0],
        macs=macs,
        node=node.name,
        weight_axis=axes[channel_axis] if source else None,
        reduction_axes=tuple(axes[a] for a in range(len(weight)) if a != channel_axis),
        reduction_length=length,
        stride=stride,
        kernel=kernel,
        groups=groups,
    )


def _linear(node: Node, graph: Graph) -> Layer:
    data, operand = _operands(node)
    flipped = weight_source(graph, data) is not None and weight_source(graph, operand) is None
    if flipped:  # the parameter stands on the left: W @ x
        data, operand = operand, data
    source = weight_source(graph, operand)
    rank = len(graph.sample_shapes[operand])
    transposed = flipped != bool(node.get("transA" if flipped else "transB", 0))
    out_axis, in_axis = (rank - 2, rank - 1) if transposed else (rank - 1, rank - 2)
    in_axis = max(in_axis, 0)
    length = graph.sample_shapes[operand][in_axis]
    axes = source[1] if source else tuple(range(rank))
    return Layer(
        name=node.name,
        kind="linear" if source else "matmul",
        input=data,
        weights=source[0] if source else operand,
        bias=None,
        output=node.outputs[0],
        macs=math.prod(graph.sample_shapes[node.outputs[0]]) * length,
        node=node.name,
        weight_axis=axes[out_axis] if source and rank > 1 else None,
        reduction_axes=(axes[in_axis],),
        reduction_length=length,
    )


def _einsum(node: Node, graph: Graph) -> Layer:
    terms, _, result = node.get("equation").replace(" ", "").partition("->")
    left, right = terms.split(",")
    data, operand = _operands(node)
    if weight_source(graph, data) is not None and weight_source(graph, operand) is None:
        data, operand, left, right = operand, data, right, left
    source = weight_source(graph, operand)
    axes = source[1] if source else tuple(range(len(graph.sample_shapes[operand])))
    lengths: dict[str, int] = {}
    if "." not in terms:
        lengths.update(zip(left, graph.sample_shapes[data], strict=True))
        lengths.update(zip(right, graph.sample_shapes[operand], strict=True))
    summed = [letter for letter in lengths if letter not in result]
    length = math.prod(lengths[letter] for letter in summed)
    channel = [i for i, letter in enumerate(right) if letter in result and letter not in left]
    return Layer(
        name=node.name,
        kind="linear" if source else "matmul",
        input=data,
        weights=source[0] if source else operand,
        bias=None,
        output=node.outputs[0],
        macs=math.prod(graph.sample_shapes[node.outputs[0]]) * length,
        node=node.name,
        weight_axis=axes[channel[0]] if source and channel else None,
        reduction_axes=tuple(axes[i] for i, letter in enumerate(right) if letter in summed),
        reduction_length=length,
    )


def _recurrent(node: Node, graph: Graph) -> list[Layer]:
    """Two products: of the input with W and of the hidden state with R, of all gates and directions."""
    data = str(node.inputs[0])
    first, second = graph.sample_shapes[data][:2]  # time and batch, in either layout
    hidden_state = node.input(5) or next((name for name in node.outputs if name), data)
    bias = node.input(3)
    layers = []
    for suffix, source, operand in (("", data, node.inputs[1]), ("/recurrent", hidden_state, node.inputs[2])):
        origin = weight_source(graph, str(operand))
        shape = graph.sample_shapes[str(operand)]
        layers.append(
            Layer(
                name=node.name + suffix,
                kind="recurrent",
                input=source,
                weights=origin[0] if origin else str(operand),
                bias=bias if not suffix else None,
                output=next(name for name in node.outputs if name),
                macs=first * second * math.prod(shape),
                node=node.name,
                weight_axis=1,
                reduction_axes=(2,),
                reduction_length=shape[2],
            )
        )
    return layers


def _samples(graph: Graph) -> int:
    """The fixed batch that all inputs and outputs share, else 1 (a symbolic batch is evaluated at 1)."""
    leading = {graph.sample_shapes[name][:1] for name in (*graph.inputs, *graph.outputs)}
    return leading.pop()[0] if len(leading) == 1 and () not in leading else 1


def _finished(layer: Layer, graph: Graph, samples: int) -> Layer:
    """`layer` with its bias, its fused chain and the shapes of one sample."""
    node = graph.producers[layer.output]
    chain = Chain(layer.output, layer.bias, ())
    if layer.kind != "recurrent":
        stated = node.input(_BIAS_PLACE[node.op]) if node.op in _BIAS_PLACE else None
        source = weight_source(graph, stated) if stated else None
        bias = source[0] if source else stated
        chain = fused_chain(graph, layer.output, bias, _channel_axis(layer, graph))
    weight_shape = graph.sample_shapes[layer.weights]
    is_parameter = layer.weights in graph.parameters
    held = math.prod(weight_shape) if is_parameter else 0
    held += graph.parameters[chain.bias].size if chain.bias and chain.bias in graph.parameters else 0
    return replace(
        layer,
        bias=chain.bias,
        output=chain.output,
        chain=chain.nodes,
        added=layer.node in graph.added,
        macs=layer.macs // samples if layer.macs % samples == 0 else layer.macs,
        input_shape=_without_batch(graph.sample_shapes[layer.input], samples),
        output_shape=_without_batch(graph.sample_shapes[layer.output], samples),
        weight_shape=weight_shape if is_parameter else _without_batch(weight_shape, samples),
        parameters=held,
    )


def _channel_axis(layer: Layer, graph: Graph) -> int:
    """Output-channel axis of the layer's result."""
    rank = len(graph.sample_shapes[layer.output])
    return 1 if layer.kind in ("conv", "depthwise", "transposed_conv") else rank - 1


def _without_batch(shape: tuple[int, ...], samples: int) -> tuple[int, ...]:
    return shape[1:] if len(shape) > 1 and shape[0] == samples else shape


def summary_table(graph: Graph) -> str:
    """A plain table of the layers, and the totals."""
    head = ("layer", "kind", "weights", "weight shape", "output", "MACs", "parameters")
    rows = [
        (
            layer.name,
            layer.kind,
            layer.weights,
            "x".join(map(str, layer.weight_shape)),
            "x".join(map(str, layer.output_shape)),
            f"{layer.macs:,}",
            f"{layer.parameters:,}",
        )
        for layer in graph.layers
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    at = "".join(f", {symbol} = {length}" for symbol, length in graph.lengths.items())
    total = f"{graph.name}: {len(rows)} layers, {graph.macs:,} MACs, {graph.parameter_count:,} parameters{at}"
    return "\n".join([*lines, total])
