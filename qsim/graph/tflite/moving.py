"""What each TFLite operator that moves, selects or resizes data is in ONNX operators."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qsim.errors import GraphError
from qsim.graph.ir import Attribute
from qsim.graph.tflite.emit import RULE, Translation, emit, shared_layout
from qsim.graph.tflite.file import FileOperator
from qsim.graph.tflite.translator import Translator

MAX_PAD = 4096


def reshape(t: Translator, op: FileOperator) -> None:
    """Any change of shape: the file states the result."""
    before, after = t.tensor(op.inputs[0]).shape, t.tensor(op.outputs[0]).shape
    if before[:1] != (1,) or after[:1] != (1,):
        t.mix_batch()
    target = (0, *after[1:]) if before[:1] == after[:1] == (1,) else after
    emit(t, op, "Reshape", [t.read(op.inputs[0]), t.integers("shape", target)], {})


def transpose(t: Translator, op: FileOperator) -> None:
    """Axes as stated."""
    perm = tuple(int(axis) for axis in t.constant(op.inputs[1]))
    if perm[:1] != (0,):
        t.mix_batch()
    emit(t, op, "Transpose", [t.read(op.inputs[0])], {"perm": perm})


def concatenation(t: Translator, op: FileOperator) -> None:
    """Along an axis, which moves with the layout."""
    layout = shared_layout(t, op)
    axis = op.options["axis"] % len(t.tensor(op.outputs[0]).shape)
    if axis == 0:
        t.mix_batch()
    if layout == "channels_first":
        axis = (0, 2, 3, 1)[axis]
    emit(t, op, "Concat", [t.read(index, layout) for index in op.inputs], {"axis": axis}, layout)


def pad(t: Translator, op: FileOperator) -> None:
    """PAD with zero, PADV2 with a value, MIRROR_PAD by reflection."""
    pads, layout = t.constant(op.inputs[1]).astype(np.int64), t.layout(op.inputs[0])
    if pads.shape != (len(t.tensor(op.inputs[0]).shape), 2):
        raise GraphError(f"paddings of shape {pads.shape} do not fit '{t.tensor(op.inputs[0]).name}'")
    if pads.size and not 0 <= pads.min() <= pads.max() <= MAX_PAD:
        raise GraphError(f"paddings of {pads.min()} to {pads.max()}; 0 to {MAX_PAD} are supported")
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
    emit(t, op, "Pad", inputs, {"mode": mode}, layout)


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
        emit(t, op, "Slice", inputs, {})
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
    emit(t, op, "Concat", rows, {"axis": axis})


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
    emit(t, op, "Reshape", [turned, t.integers("shape", (-1, h // by, w // bx, c))], {})


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
    emit(t, op, "Slice", [whole, *parts], {})


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
        emit(t, op, "Resize", inputs, {**attributes, "axes": (2, 3)}, "channels_first")

    return translate


def blocks(onnx_op: str) -> Translation:
    """Between channels and blocks of the image, in the order of TFLite (ONNX mode DCR)."""

    def translate(t: Translator, op: FileOperator) -> None:
        attributes = {"blocksize": op.options["block_size"]}
        emit(t, op, onnx_op, [t.read(op.inputs[0], "channels_first")], attributes, "channels_first")

    return translate


MOVING: Mapping[str, Translation] = {
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
