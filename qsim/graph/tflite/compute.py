"""What each TFLite operator that computes is in ONNX operators: one short function each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qsim.errors import GraphError
from qsim.graph.ir import Attribute
from qsim.graph.tflite.emit import Attributes, Translation, emit, shared_layout
from qsim.graph.tflite.file import FileOperator
from qsim.graph.tflite.translator import Translator

MAX_WINDOW = 4096
FULLY_CONNECTED_RULE = "tflite_float"

# Multiply and accumulate


def conv_2d(t: Translator, op: FileOperator) -> None:
    """Weights [O, kh, kw, I / groups]."""
    weight = t.tensor(op.inputs[1])
    if len(weight.shape) != 4 or weight.shape[3] < 1:
        raise GraphError(f"weights '{weight.name}' of a convolution have shape {weight.shape}")
    groups = t.tensor(op.inputs[0]).shape[-1] // weight.shape[3]
    _convolution(t, op, t.weights(op.inputs[1], (0, 3, 1, 2), 0), weight.shape[1:3], groups)


def depthwise_conv_2d(t: Translator, op: FileOperator) -> None:
    """Weights [1, kh, kw, C * multiplier]."""
    weight = t.tensor(op.inputs[1])
    if len(weight.shape) != 4:
        raise GraphError(f"weights '{weight.name}' of a convolution have shape {weight.shape}")
    channels = t.tensor(op.inputs[0]).shape[-1]
    _convolution(t, op, t.weights(op.inputs[1], (3, 0, 1, 2), 0), weight.shape[1:3], channels)


def _convolution(t: Translator, op: FileOperator, weight: str, kernel: Sequence[int], groups: int) -> None:
    strides = (op.options["stride_h"], op.options["stride_w"])
    dilations = (op.options["dilation_h"], op.options["dilation_w"])
    attributes: Attributes = {
        "kernel_shape": tuple(kernel),
        "strides": strides,
        "dilations": dilations,
        "group": groups,
        "pads": _pads(t, op, kernel, strides, dilations),
    }
    inputs = [t.read(op.inputs[0], "channels_first"), weight, t.bias(op, 2)]
    emit(t, op, "Conv", inputs, attributes, "channels_first")


def transpose_conv(t: Translator, op: FileOperator) -> None:
    """Inputs: output shape, weights [O, kh, kw, I], data, bias."""
    weight, data, out = t.tensor(op.inputs[1]), t.tensor(op.inputs[2]), t.tensor(op.outputs[0])
    kernel, strides = weight.shape[1:3], (op.options["stride_h"], op.options["stride_w"])
    full = [s * (n - 1) + k for n, s, k in zip(data.shape[1:3], strides, kernel, strict=True)]
    begins = [
        max(f - n, 0) // 2 if op.options["padding"] == 0 else 0
        for f, n in zip(full, out.shape[1:3], strict=True)
    ]
    ends = [f - n - begin for f, n, begin in zip(full, out.shape[1:3], begins, strict=True)]
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": (*begins, *(max(end, 0) for end in ends)),
    }
    if min(ends) < 0:
        attributes["output_padding"] = tuple(max(-end, 0) for end in ends)
    inputs = [t.read(op.inputs[2], "channels_first"), t.weights(op.inputs[1], (3, 0, 1, 2), 1), t.bias(op, 3)]
    emit(t, op, "ConvTranspose", inputs, attributes, "channels_first")


def fully_connected(t: Translator, op: FileOperator) -> None:
    """Weights [O, K]; leading axes of the data become rows, and axes again after it."""
    if op.options["weights_format"] != 0:
        raise GraphError("fully connected weights in a shuffled format are not supported")
    data, weight, out = t.tensor(op.inputs[0]), t.tensor(op.inputs[1]), t.tensor(op.outputs[0])
    name = t.read(op.inputs[0])
    if len(data.shape) != 2:
        flat = t.before(op.inputs[0], f"rows_{op.index}")
        t.add_node(
            "Reshape", [name, t.integers("rows", (-1, weight.shape[1]))], [flat], name=f"rows_{op.index}"
        )
        name = flat
    if out.shape[:1] != data.shape[:1]:
        t.mix_batch()
    inputs = [name, t.weights(op.inputs[1], (0, 1), 0), t.bias(op, 2)]
    if len(out.shape) == 2:
        emit(t, op, "Gemm", inputs, {"transB": 1}, rule=FULLY_CONNECTED_RULE)
        return
    rows = t.before(op.outputs[0], "rows")
    emit(t, op, "Gemm", inputs, {"transB": 1}, rule=FULLY_CONNECTED_RULE, target=rows)
    shape = t.integers("shape", (-1, *out.shape[1:]))
    t.add_node("Reshape", [rows, shape], [t.write(op.outputs[0])], name=f"unrows_{op.index}")


def batch_matmul(t: Translator, op: FileOperator) -> None:
    """Either operand may be transposed first."""
    inputs = []
    for index, flag in zip(op.inputs, ("adj_x", "adj_y"), strict=True):
        name = t.read(index)
        if op.options[flag]:
            rank = len(t.tensor(index).shape)
            turned = t.before(index, f"turned_{op.index}")
            perm = (*range(rank - 2), rank - 1, rank - 2)
            t.add_node("Transpose", [name], [turned], {"perm": perm}, name=f"{flag}_{op.index}")
            name = turned
        inputs.append(name)
    emit(t, op, "MatMul", inputs, {})


# Elementwise


def elementwise(onnx_op: str) -> Translation:
    """Operators that act element by element, on any layout that all operands share."""

    def translate(t: Translator, op: FileOperator) -> None:
        layout = shared_layout(t, op)
        emit(t, op, onnx_op, [t.read(index, layout) for index in op.inputs], _unary_attributes(op), layout)

    return translate


def clip(low: float, high: float) -> Translation:
    """RELU6 and RELU_N1_TO_1."""

    def translate(t: Translator, op: FileOperator) -> None:
        layout = t.layout(op.inputs[0])
        inputs = [t.read(op.inputs[0], layout), t.real("min", low), t.real("max", high)]
        emit(t, op, "Clip", inputs, {}, layout)

    return translate


def softmax(t: Translator, op: FileOperator) -> None:
    """Over the last axis."""
    if op.options["beta"] != 1.0:
        raise GraphError(f"softmax with beta {op.options['beta']} is not supported, only 1")
    emit(t, op, "Softmax", [t.read(op.inputs[0])], {"axis": -1})


def quantize(t: Translator, op: FileOperator) -> None:
    """A change of scale; of a float input of the network: the input takes the quantized plan."""
    if t.tensor(op.inputs[0]).is_quantized:
        layout = t.layout(op.inputs[0])
        emit(t, op, "Identity", [t.read(op.inputs[0], layout)], {}, layout)
    elif op.inputs[0] in t.file.inputs:
        t.alias(op.outputs[0], op.inputs[0])
    else:
        raise GraphError(
            f"'{t.tensor(op.inputs[0]).name}' is computed in float: a fully quantized model is needed"
        )


def dequantize(t: Translator, op: FileOperator) -> None:
    """A float output of the network takes the quantized plan."""
    if op.outputs[0] not in t.file.outputs:
        raise GraphError(
            f"'{t.tensor(op.outputs[0]).name}' is used in float: a fully quantized model is needed"
        )
    t.alias(op.outputs[0], op.inputs[0])


# Windows and reductions


def pool(onnx_op: str) -> Translation:
    """Average or maximum over windows that do not count padding."""

    def translate(t: Translator, op: FileOperator) -> None:
        kernel = (op.options["filter_h"], op.options["filter_w"])
        strides = (op.options["stride_h"], op.options["stride_w"])
        attributes = {
            "kernel_shape": kernel,
            "strides": strides,
            "pads": _pads(t, op, kernel, strides, (1, 1)),
        }
        emit(t, op, onnx_op, [t.read(op.inputs[0], "channels_first")], attributes, "channels_first")

    return translate


def reduce(onnx_op: str) -> Translation:
    """Mean, sum, maximum or minimum over stated axes."""

    def translate(t: Translator, op: FileOperator) -> None:
        rank = len(t.tensor(op.inputs[0]).shape)
        axes = sorted({int(axis) % rank for axis in t.constant(op.inputs[1]).reshape(-1)})
        keeps = bool(op.options["keep_dims"])
        layout = t.layout(op.inputs[0])
        # Both spatial axes: the result is the same in either layout, images stay channels first if their rank stays 4.
        if layout == "channels_first" and axes == [1, 2]:
            axes, out_layout = [2, 3], layout if keeps else "as_stored"
        else:
            layout = out_layout = "as_stored"
        if 0 in axes:
            t.mix_batch()
        inputs = [t.read(op.inputs[0], layout), t.integers("axes", axes)]
        emit(t, op, onnx_op, inputs, {"keepdims": int(keeps)}, out_layout)

    return translate


def _unary_attributes(op: FileOperator) -> dict[str, Attribute]:
    if op.op == "LEAKY_RELU":
        return {"alpha": float(op.options["alpha"])}
    if op.op == "GELU":
        return {"approximate": "tanh" if op.options["approximate"] else "none"}
    return {}


def _pads(
    t: Translator, op: FileOperator, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...]:
    """ONNX pads of SAME (0: as many outputs as input / stride, the odd one at the end) or VALID (1)."""
    sizes = (*strides, *dilations, *kernel)
    if min(sizes) < 1 or max(sizes) > MAX_WINDOW:
        raise GraphError(
            f"{op.op} has kernel {tuple(kernel)}, strides {strides}, dilations {dilations}; "
            f"1 to {MAX_WINDOW} are supported"
        )
    if op.options["padding"] == 1:
        return (0, 0, 0, 0)
    spatial = t.tensor(op.inputs[0]).shape[1:3]
    totals = [
        max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        for n, k, s, d in zip(spatial, kernel, strides, dilations, strict=True)
    ]
    return (*(total // 2 for total in totals), *(total - total // 2 for total in totals))


COMPUTING: Mapping[str, Translation] = {
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "TRANSPOSE_CONV": transpose_conv,
    "FULLY_CONNECTED": fully_connected,
    "BATCH_MATMUL": batch_matmul,
    "ADD": elementwise("Add"),
    "SUB": elementwise("Sub"),
    "MUL": elementwise("Mul"),
    "MAXIMUM": elementwise("Max"),
    "MINIMUM": elementwise("Min"),
    "RELU": elementwise("Relu"),
    "RELU6": clip(0.0, 6.0),
    "RELU_N1_TO_1": clip(-1.0, 1.0),
    "LEAKY_RELU": elementwise("LeakyRelu"),
    "PRELU": elementwise("PRelu"),
    "LOGISTIC": elementwise("Sigmoid"),
    "TANH": elementwise("Tanh"),
    "HARD_SWISH": elementwise("HardSwish"),
    "ELU": elementwise("Elu"),
    "GELU": elementwise("Gelu"),
    "SOFTMAX": softmax,
    "QUANTIZE": quantize,
    "DEQUANTIZE": dequantize,
    "AVERAGE_POOL_2D": pool("AveragePool"),
    "MAX_POOL_2D": pool("MaxPool"),
    "MEAN": reduce("ReduceMean"),
    "SUM": reduce("ReduceSum"),
    "REDUCE_MAX": reduce("ReduceMax"),
    "REDUCE_MIN": reduce("ReduceMin"),
}
