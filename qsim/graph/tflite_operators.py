"""What each TFLite operator is in ONNX operators: one short function each, reading and writing a Translator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from qsim.errors import GraphError
from qsim.graph.ir import Attribute
from qsim.graph.tflite_file import FileOperator
from qsim.graph.tflite_import import RULE, Layout, Translator

Translation = Callable[[Translator, FileOperator], None]
Attributes = Mapping[str, Attribute]
_CLIPS = {2: (-1.0, 1.0), 3: (0.0, 6.0)}  # RELU_N1_TO_1, RELU6


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
    _emit(t, op, "Conv", inputs, attributes, "channels_first")


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
    _emit(t, op, "ConvTranspose", inputs, attributes, "channels_first")


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
        _emit(t, op, "Gemm", inputs, {"transB": 1}, rule="tflite_float")
        return
    rows = t.before(op.outputs[0], "rows")
    _emit(t, op, "Gemm", inputs, {"transB": 1}, rule="tflite_float", target=rows)
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
    _emit(t, op, "MatMul", inputs, {})


# Elementwise


def elementwise(onnx_op: str) -> Translation:
    """Operators that act element by element, on any layout that all operands share."""

    def translate(t: Translator, op: FileOperator) -> None:
        layout = _shared_layout(t, op)
        _emit(t, op, onnx_op, [t.read(index, layout) for index in op.inputs], _unary_attributes(op), layout)

    return translate


def clip(low: float, high: float) -> Translation:
    """RELU6 and RELU_N1_TO_1."""

    def translate(t: Translator, op: FileOperator) -> None:
        layout = t.layout(op.inputs[0])
        inputs = [t.read(op.inputs[0], layout), t.real("min", low), t.real("max", high)]
        _emit(t, op, "Clip", inputs, {}, layout)

    return translate


def softmax(t: Translator, op: FileOperator) -> None:
    """Over the last axis."""
    if op.options["beta"] != 1.0:
        raise GraphError(f"softmax with beta {op.options['beta']} is not supported, only 1")
    _emit(t, op, "Softmax", [t.read(op.inputs[0])], {"axis": -1})


def quantize(t: Translator, op: FileOperator) -> None:
    """A change of scale; of a float input of the network: the input takes the quantized plan."""
    if t.tensor(op.inputs[0]).is_quantized:
        layout = t.layout(op.inputs[0])
        _emit(t, op, "Identity", [t.read(op.inputs[0], layout)], {}, layout)
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
        _emit(t, op, onnx_op, [t.read(op.inputs[0], "channels_first")], attributes, "channels_first")

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
        _emit(t, op, onnx_op, inputs, {"keepdims": int(keeps)}, out_layout)

    return translate


# Moving data


def reshape(t: Translator, op: FileOperator) -> None:
    """Any change of shape: the file states the result."""
    before, after = t.tensor(op.inputs[0]).shape, t.tensor(op.outputs[0]).shape
    if before[:1] != (1,) or after[:1] != (1,):
        t.mix_batch()
    target = (0, *after[1:]) if before[:1] == after[:1] == (1,) else after
    _move(t, op, "Reshape", [t.read(op.inputs[0]), t.integers("shape", target)], {})


def transpose(t: Translator, op: FileOperator) -> None:
    """Axes as stated."""
    perm = tuple(int(axis) for axis in t.constant(op.inputs[1]))
    if perm[:1] != (0,):
        t.mix_batch()
    _move(t, op, "Transpose", [t.read(op.inputs[0])], {"perm": perm})


def concatenation(t: Translator, op: FileOperator) -> None:
    """Along an axis, which moves with the layout."""
    layout = _shared_layout(t, op)
    axis = op.options["axis"] % len(t.tensor(op.outputs[0]).shape)
    if axis == 0:
        t.mix_batch()
    if layout == "channels_first":
        axis = (0, 2, 3, 1)[axis]
    _move(t, op, "Concat", [t.read(index, layout) for index in op.inputs], {"axis": axis}, layout)


def pad(t: Translator, op: FileOperator) -> None:
    """PAD with zero, PADV2 with a value, MIRROR_PAD by reflection."""
    pads, layout = t.constant(op.inputs[1]).astype(np.int64), t.layout(op.inputs[0])
    if pads.shape != (len(t.tensor(op.inputs[0]).shape), 2):
        raise GraphError(f"paddings of shape {pads.shape} do not fit '{t.tensor(op.inputs[0]).name}'")
    if layout == "channels_first":
        pads = pads[[0, 3, 1, 2]]
    if pads[0].any():
        t.mix_batch()
    inputs = [t.read(op.inputs[0], layout), t.integers("pads", pads.T.reshape(-1).tolist())]
    mode = "constant"
    if op.op == "MIRROR_PAD":
        if op.options["mode"] != 0:
            raise GraphError("MIRROR_PAD in mode SYMMETRIC is not supported, only REFLECT")
        mode = "reflect"
    elif op.op == "PADV2":
        value = t.tensor(op.inputs[2])
        code = int(t.constant(op.inputs[2]).reshape(-1)[0]) - int(
            value.zero_point[0] if value.zero_point.size else 0
        )
        inputs.append(t.real("value", code * float(value.scale[0])))
    _move(t, op, "Pad", inputs, {"mode": mode}, layout)


def slice_(t: Translator, op: FileOperator) -> None:
    """From begin, size elements (-1: to the end)."""
    begins = t.constant(op.inputs[1]).astype(np.int64)
    sizes = t.constant(op.inputs[2]).astype(np.int64)
    shape = np.array(t.tensor(op.inputs[0]).shape)
    ends = np.where(sizes < 0, shape, begins + sizes)
    _slice(t, op, begins.tolist(), ends.tolist(), [1] * len(shape))


def strided_slice(t: Translator, op: FileOperator) -> None:
    """Masks say which ends are open and which axes are dropped."""
    if op.options["ellipsis_mask"] or op.options["new_axis_mask"] or op.options["offset"]:
        raise GraphError("STRIDED_SLICE with an ellipsis, new axes or offsets is not supported")
    shape = t.tensor(op.inputs[0]).shape
    begins, ends, steps = (t.constant(index).astype(np.int64).tolist() for index in op.inputs[1:4])
    for axis in range(len(begins)):
        forward = steps[axis] > 0
        if op.options["begin_mask"] >> axis & 1:
            begins[axis] = 0 if forward else shape[axis] - 1
        if op.options["end_mask"] >> axis & 1:
            ends[axis] = shape[axis] if forward else -shape[axis] - 1
        if op.options["shrink_axis_mask"] >> axis & 1:
            ends[axis], steps[axis] = begins[axis] + 1 or shape[axis], 1
    _slice(t, op, begins, ends, steps)


def _slice(t: Translator, op: FileOperator, begins: list[int], ends: list[int], steps: list[int]) -> None:
    shape, out = t.tensor(op.inputs[0]).shape, t.tensor(op.outputs[0]).shape
    axes = [
        axis for axis in range(len(begins)) if (begins[axis], ends[axis], steps[axis]) != (0, shape[axis], 1)
    ]
    if 0 in axes or out[:1] != shape[:1]:
        t.mix_batch()
    lists = {"starts": begins, "ends": ends, "axes": list(range(len(begins))), "steps": steps}
    parts = [t.integers(label, [values[axis] for axis in axes]) for label, values in lists.items()]
    inputs = [t.read(op.inputs[0]), *parts]
    if len(out) == len(shape):
        _move(t, op, "Slice", inputs, {})
        return
    kept = t.before(op.outputs[0], "unsqueezed")
    t.add_node("Slice", inputs, [kept], rule=RULE)
    target = t.integers("shape", (0, *out[1:]) if out[:1] == shape[:1] else out)
    t.add_node("Reshape", [kept, target], [t.write(op.outputs[0])], name=f"squeeze_{op.index}")


def split(t: Translator, op: FileOperator) -> None:
    """SPLIT reads (axis, data), SPLIT_V (data, sizes, axis)."""
    data, axis_input = (op.inputs[1], op.inputs[0]) if op.op == "SPLIT" else (op.inputs[0], op.inputs[2])
    axis = int(t.constant(axis_input).reshape(-1)[0]) % len(t.tensor(data).shape)
    if axis == 0:
        t.mix_batch()
    sizes = t.integers("split", [t.tensor(index).shape[axis] for index in op.outputs])
    outputs = [t.write(index) for index in op.outputs]
    t.add_node("Split", [t.read(data), sizes], outputs, {"axis": axis}, RULE)


def pack(t: Translator, op: FileOperator) -> None:
    """Stack along a new axis: each input gains the axis, then they are joined."""
    rank = len(t.tensor(op.outputs[0]).shape)
    axis = op.options["axis"] % rank
    if axis == 0:
        t.mix_batch()
    axes, rows = t.integers("axes", [axis]), []
    for number, index in enumerate(op.inputs):
        row = t.before(op.outputs[0], f"row_{number}")
        t.add_node("Unsqueeze", [t.read(index), axes], [row], rule=RULE, name=f"pack_{op.index}_{number}")
        rows.append(row)
    _move(t, op, "Concat", rows, {"axis": axis})


def unpack(t: Translator, op: FileOperator) -> None:
    """Split along an axis and drop it."""
    axis = op.options["axis"] % len(t.tensor(op.inputs[0]).shape)
    if axis == 0:
        t.mix_batch()
    sizes, axes = t.integers("split", [1] * len(op.outputs)), t.integers("axes", [axis])
    rows = [t.before(index, f"row_{op.index}") for index in op.outputs]
    t.add_node("Split", [t.read(op.inputs[0]), sizes], rows, {"axis": axis}, RULE)
    for row, index in zip(rows, op.outputs, strict=True):
        t.add_node("Squeeze", [row, axes], [t.write(index)], rule=RULE, name=f"unpack_{op.index}_{index}")


def space_to_batch(t: Translator, op: FileOperator) -> None:
    """Pad, then move the offsets inside each block of the image to the front of the batch."""
    (by, bx), pads = _block(t, op), t.constant(op.inputs[2]).astype(np.int64)
    _, h, w, c = t.tensor(op.inputs[0]).shape
    padded, folded, turned = (t.before(op.outputs[0], step) for step in ("padded", "folded", "turned"))
    flat = [0, *pads[:, 0].tolist(), 0, 0, *pads[:, 1].tolist(), 0]
    h, w = h + int(pads[0].sum()), w + int(pads[1].sum())
    t.mix_batch()
    t.add_node(
        "Pad", [t.read(op.inputs[0]), t.integers("pads", flat)], [padded], rule=RULE, name=f"pad_{op.index}"
    )
    shape = t.integers("blocks", (-1, h // by, by, w // bx, bx, c))
    t.add_node("Reshape", [padded, shape], [folded], rule=RULE, name=f"fold_{op.index}")
    t.add_node("Transpose", [folded], [turned], {"perm": (2, 4, 0, 1, 3, 5)}, RULE, f"turn_{op.index}")
    _move(t, op, "Reshape", [turned, t.integers("shape", (-1, h // by, w // bx, c))], {})


def batch_to_space(t: Translator, op: FileOperator) -> None:
    """The inverse of `space_to_batch`, cropped."""
    (by, bx), crops = _block(t, op), t.constant(op.inputs[2]).astype(np.int64)
    _, h, w, c = t.tensor(op.inputs[0]).shape
    folded, turned, whole = (t.before(op.outputs[0], step) for step in ("folded", "turned", "whole"))
    t.mix_batch()
    shape = t.integers("blocks", (by, bx, -1, h, w, c))
    t.add_node("Reshape", [t.read(op.inputs[0]), shape], [folded], rule=RULE, name=f"fold_{op.index}")
    t.add_node("Transpose", [folded], [turned], {"perm": (2, 3, 0, 4, 1, 5)}, RULE, f"turn_{op.index}")
    full = t.integers("full", (-1, h * by, w * bx, c))
    t.add_node("Reshape", [turned, full], [whole], rule=RULE, name=f"unfold_{op.index}")
    starts, ends = crops[:, 0].tolist(), (np.array([h * by, w * bx]) - crops[:, 1]).tolist()
    parts = [t.integers("starts", starts), t.integers("ends", ends), t.integers("axes", (1, 2))]
    _move(t, op, "Slice", [whole, *parts], {})


def _block(t: Translator, op: FileOperator) -> tuple[int, int]:
    block = t.constant(op.inputs[1]).reshape(-1)
    if len(block) != 2 or len(t.tensor(op.inputs[0]).shape) != 4 or block.min() < 1:
        raise GraphError(f"{op.op} with block {block.tolist()} is not supported, only 2 axes of an image")
    return int(block[0]), int(block[1])


def resize(mode: str) -> Translation:
    """Nearest or bilinear, to the size the file states."""

    def translate(t: Translator, op: FileOperator) -> None:
        if op.options["align_corners"]:
            transformation = "align_corners"
        else:
            transformation = "half_pixel" if op.options["half_pixel_centers"] else "asymmetric"
        attributes: dict[str, Attribute] = {"mode": mode, "coordinate_transformation_mode": transformation}
        if mode == "nearest":
            attributes["nearest_mode"] = "floor" if transformation == "asymmetric" else "round_prefer_ceil"
        out = t.tensor(op.outputs[0]).shape
        sizes = t.integers("sizes", out[1:3])
        inputs = [t.read(op.inputs[0], "channels_first"), None, None, sizes]
        _move(t, op, "Resize", inputs, {**attributes, "axes": (2, 3)}, "channels_first")

    return translate


def blocks(onnx_op: str) -> Translation:
    """Between channels and blocks of the image, in the order of TFLite (ONNX mode DCR)."""

    def translate(t: Translator, op: FileOperator) -> None:
        attributes = {"blocksize": op.options["block_size"]}
        _move(t, op, onnx_op, [t.read(op.inputs[0], "channels_first")], attributes, "channels_first")

    return translate


# The common ends of a translation


def _emit(
    t: Translator,
    op: FileOperator,
    onnx_op: str,
    inputs: Sequence[str | None],
    attributes: Attributes,
    layout: Layout = "as_stored",
    rule: str = RULE,
    target: str | None = None,
) -> None:
    """One node for the operator and, if it fuses an activation function, one for that."""
    activation = op.options.get("activation", 0)
    output = target or t.write(op.outputs[0], layout)
    if activation == 0:
        t.add_node(onnx_op, inputs, [output], attributes, rule)
        return
    if activation not in (1, *_CLIPS):
        raise GraphError(
            f"{op.op} fuses activation function {activation}; supported: RELU, RELU6, RELU_N1_TO_1"
        )
    linear = t.before(op.outputs[0], "linear")
    t.add_node(onnx_op, inputs, [linear], attributes, rule)
    if activation == 1:
        t.add_node("Relu", [linear], [output], rule=rule, name=f"relu_{op.index}")
    else:
        bounds = [
            t.real(label, value) for label, value in zip(("min", "max"), _CLIPS[activation], strict=True)
        ]
        t.add_node("Clip", [linear, *bounds], [output], rule=rule, name=f"clip_{op.index}")


def _move(
    t: Translator,
    op: FileOperator,
    onnx_op: str,
    inputs: Sequence[str | None],
    attributes: Attributes,
    layout: Layout = "as_stored",
) -> None:
    _emit(t, op, onnx_op, inputs, attributes, layout)


def _shared_layout(t: Translator, op: FileOperator) -> Layout:
    """Channels first where an activation lies so and every other can be brought there, else as stored."""
    activations = [index for index in op.inputs if t.tensor(index).data is None]
    can_turn = all(len(t.tensor(index).shape) == 4 for index in activations)
    turned = can_turn and any(t.layout(index) == "channels_first" for index in activations)
    return "channels_first" if turned else "as_stored"


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
    if min(*strides, *dilations, *kernel) < 1:
        raise GraphError(f"{op.op} has kernel {tuple(kernel)}, strides {strides}, dilations {dilations}")
    if op.options["padding"] == 1:
        return (0, 0, 0, 0)
    spatial = t.tensor(op.inputs[0]).shape[1:3]
    totals = [
        max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        for n, k, s, d in zip(spatial, kernel, strides, dilations, strict=True)
    ]
    return (*(total // 2 for total in totals), *(total - total // 2 for total in totals))


TRANSLATIONS: Mapping[str, Translation] = {
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
    "RESHAPE": reshape,
    "SQUEEZE": reshape,
    "EXPAND_DIMS": reshape,
    "TRANSPOSE": transpose,
    "CONCATENATION": concatenation,
    "PAD": pad,
    "PADV2": pad,
    "MIRROR_PAD": pad,
    "SLICE": slice_,
    "STRIDED_SLICE": strided_slice,
    "SPLIT": split,
    "SPLIT_V": split,
    "PACK": pack,
    "UNPACK": unpack,
    "SPACE_TO_BATCH_ND": space_to_batch,
    "BATCH_TO_SPACE_ND": batch_to_space,
    "RESIZE_NEAREST_NEIGHBOR": resize("nearest"),
    "RESIZE_BILINEAR": resize("linear"),
    "DEPTH_TO_SPACE": blocks("DepthToSpace"),
    "SPACE_TO_DEPTH": blocks("SpaceToDepth"),
}
