"""Reading a TFLite file: the few FlatBuffers tables a network needs, as plain frozen dataclasses.

A file is hostile until proven otherwise: every offset and length is checked against the file, and whatever does
not fit is one GraphError. Format: FlatBuffers; table fields as in TensorFlow's lite/schema/schema.fbs, version 3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qsim.errors import GraphError

Array = npt.NDArray[Any]

MAX_ELEMENTS = 2**28  # of one tensor; a damaged shape must not ask for all memory
DTYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8"}

OPERATORS = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 5: "DEPTH_TO_SPACE",
    6: "DEQUANTIZE", 9: "FULLY_CONNECTED", 14: "LOGISTIC", 17: "MAX_POOL_2D", 18: "MUL", 19: "RELU",
    20: "RELU_N1_TO_1", 21: "RELU6", 22: "RESHAPE", 23: "RESIZE_BILINEAR", 25: "SOFTMAX", 26: "SPACE_TO_DEPTH",
    28: "TANH", 34: "PAD", 36: "GATHER", 37: "BATCH_TO_SPACE_ND", 38: "SPACE_TO_BATCH_ND", 39: "TRANSPOSE",
    40: "MEAN", 41: "SUB", 43: "SQUEEZE", 45: "STRIDED_SLICE", 49: "SPLIT", 54: "PRELU", 55: "MAXIMUM", 57: "MINIMUM",
    60: "PADV2", 65: "SLICE", 67: "TRANSPOSE_CONV", 70: "EXPAND_DIMS", 74: "SUM", 77: "SHAPE", 81: "REDUCE_PROD",
    82: "REDUCE_MAX", 83: "PACK", 88: "UNPACK", 89: "REDUCE_MIN", 97: "RESIZE_NEAREST_NEIGHBOR", 98: "LEAKY_RELU",
    100: "MIRROR_PAD", 102: "SPLIT_V", 111: "ELU", 114: "QUANTIZE", 117: "HARD_SWISH", 126: "BATCH_MATMUL",
    150: "GELU",
}  # fmt: skip

# Per operator the fields of its options table: (name, struct format, default), in the order of the schema.
_CONV = (("padding", "b", 0), ("stride_w", "i", 0), ("stride_h", "i", 0))
_SLOTS: Mapping[str, tuple[tuple[str, str, float], ...]] = {
    "CONV_2D": (*_CONV, ("activation", "b", 0), ("dilation_w", "i", 1), ("dilation_h", "i", 1)),
    "DEPTHWISE_CONV_2D": (
        *_CONV, ("depth_multiplier", "i", 0), ("activation", "b", 0), ("dilation_w", "i", 1), ("dilation_h", "i", 1),
    ),
    "TRANSPOSE_CONV": (*_CONV, ("activation", "b", 0)),
    "AVERAGE_POOL_2D": (*_CONV, ("filter_w", "i", 0), ("filter_h", "i", 0), ("activation", "b", 0)),
    "MAX_POOL_2D": (*_CONV, ("filter_w", "i", 0), ("filter_h", "i", 0), ("activation", "b", 0)),
    "FULLY_CONNECTED": (("activation", "b", 0), ("weights_format", "b", 0), ("keep_num_dims", "b", 0)),
    "ADD": (("activation", "b", 0),),
    "SUB": (("activation", "b", 0),),
    "MUL": (("activation", "b", 0),),
    "CONCATENATION": (("axis", "i", 0), ("activation", "b", 0)),
    "SOFTMAX": (("beta", "f", 0.0),),
    "LEAKY_RELU": (("alpha", "f", 0.0),),
    "GELU": (("approximate", "b", 0),),
    "MEAN": (("keep_dims", "b", 0),),
    "SUM": (("keep_dims", "b", 0),),
    "REDUCE_MAX": (("keep_dims", "b", 0),),
    "REDUCE_MIN": (("keep_dims", "b", 0),),
    "PACK": (("values_count", "i", 0), ("axis", "i", 0)),
    "UNPACK": (("num", "i", 0), ("axis", "i", 0)),
    "GATHER": (("axis", "i", 0), ("batch_dims", "i", 0)),
    "BATCH_MATMUL": (("adj_x", "b", 0), ("adj_y", "b", 0)),
    "MIRROR_PAD": (("mode", "b", 0),),
    "DEPTH_TO_SPACE": (("block_size", "i", 0),),
    "SPACE_TO_DEPTH": (("block_size", "i", 0),),
    "RESIZE_BILINEAR": (
        ("new_height", "i", 0), ("new_width", "i", 0), ("align_corners", "b", 0), ("half_pixel_centers", "b", 0),
    ),
    "RESIZE_NEAREST_NEIGHBOR": (("align_corners", "b", 0), ("half_pixel_centers", "b", 0)),
    "STRIDED_SLICE": (
        ("begin_mask", "i", 0), ("end_mask", "i", 0), ("ellipsis_mask", "i", 0), ("new_axis_mask", "i", 0),
        ("shrink_axis_mask", "i", 0), ("offset", "b", 0),
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class FileTensor:
    """One tensor of the file; `data` is its constant value, None for an activation."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int
    data: Array | None

    @property
    def is_quantized(self) -> bool:
        return self.scale.size > 0


@dataclass(frozen=True)
class FileOperator:
    """One operator: `op` is its TFLite name; input -1 is left out."""

    op: str
    index: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class FileModel:
    """The one subgraph of a TFLite file."""

    tensors: tuple[FileTensor, ...]
    operators: tuple[FileOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(path: str | Path) -> FileModel:
    """The network in a .tflite file; GraphError, naming the file, when it is damaged or beyond what is supported."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GraphError(f"cannot read '{path}': {error.strerror}") from None
    if data[4:8] != b"TFL3":
        raise GraphError(f"'{path}' is not a TFLite file (no TFL3 identifier)")
    try:
        return _model(_Table(data, _unpack("I", data, 0)))
    except GraphError as error:
        raise GraphError(f"'{path}': {error}") from None
    except (struct.error, ValueError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GraphError(f"'{path}' is damaged: {reason}") from None


class _Table:
    """A FlatBuffers table: a vtable of field offsets, then the fields."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position
        self._vtable = position - _unpack("i", data, position)
        self._fields = (_unpack("H", data, self._vtable) - 4) // 2

    def _offset(self, slot: int) -> int | None:
        """Where field `slot` stands, or None where it is left out."""
        if slot >= self._fields:
            return None
        offset = _unpack("H", self._data, self._vtable + 4 + 2 * slot)
        return self._position + offset if offset else None

    def _target(self, slot: int) -> int | None:
        at = self._offset(slot)
        return None if at is None else at + _unpack("I", self._data, at)

    def scalar(self, slot: int, form: str, default: float) -> Any:
        at = self._offset(slot)
        return default if at is None else _unpack(form, self._data, at)

    def table(self, slot: int) -> _Table | None:
        at = self._target(slot)
        return None if at is None else _Table(self._data, at)

    def vector(self, slot: int, dtype: str) -> Array:
        at = self._target(slot)
        if at is None:
            return np.zeros(0, dtype)
        count = _unpack("I", self._data, at)
        if count * np.dtype(dtype).itemsize > len(self._data) - at - 4:
            raise GraphError(f"a vector of {count} {dtype} runs past the end of the file")
        return np.frombuffer(self._data, dtype, count, at + 4)

    def tables(self, slot: int) -> Iterator[_Table]:
        at = self._target(slot)
        for index in range(len(self.vector(slot, "<u4"))):
            position = (at or 0) + 4 + 4 * index
            yield _Table(self._data, position + _unpack("I", self._data, position))

    def text(self, slot: int) -> str:
        return self.vector(slot, "u1").tobytes().decode("utf-8", errors="replace")


def _unpack(form: str, data: bytes, position: int) -> Any:
    if position < 0:
        raise GraphError("an offset points before the start of the file")
    return struct.unpack_from("<" + form, data, position)[0]


def _model(root: _Table) -> FileModel:
    subgraphs = list(root.tables(2))
    if len(subgraphs) != 1:
        raise GraphError(f"it has {len(subgraphs)} subgraphs (control flow); exactly one is supported")
    graph = subgraphs[0]
    buffers = list(root.tables(4))
    codes = [_operator_name(code) for code in root.tables(1)]
    tensors = tuple(_tensor(index, table, buffers) for index, table in enumerate(graph.tables(0)))
    operators = tuple(
        _operator(index, table, codes, len(tensors)) for index, table in enumerate(graph.tables(3))
    )
    inputs, outputs = (_indices(graph, slot, len(tensors), "the subgraph") for slot in (1, 2))
    return FileModel(tensors, operators, inputs, outputs)


def _operator_name(table: _Table) -> str:
    # Codes below 127 stand in the old byte field, newer ones in the int field (schema 3a).
    code = max(table.scalar(0, "b", 0), table.scalar(3, "i", 0))
    if code == 32:
        return f"CUSTOM '{table.text(1)}'"
    return OPERATORS.get(code, f"number {code}")


def _tensor(index: int, table: _Table, buffers: list[_Table]) -> FileTensor:
    kind, buffer = table.scalar(1, "b", 0), table.scalar(2, "I", 0)
    name = table.text(3) or f"tensor_{index}"
    if kind not in DTYPES:
        raise GraphError(
            f"tensor '{name}' is of element type {kind}; supported: {', '.join(DTYPES.values())}"
        )
    shape = tuple(int(length) for length in table.vector(0, "<i4"))
    if any(length < 0 for length in shape):
        raise GraphError(f"tensor '{name}' has shape {shape}; lengths must be known")
    if math.prod(shape) > MAX_ELEMENTS:
        raise GraphError(f"tensor '{name}' has shape {shape}: more than {MAX_ELEMENTS} elements")
    if buffer >= max(len(buffers), 1):
        raise GraphError(f"tensor '{name}' points at buffer {buffer} of {len(buffers)}")
    quantization = table.table(4)
    scale, zero_point, axis = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    if quantization is not None:
        scale, zero_point = quantization.vector(2, "<f4"), quantization.vector(3, "<i8")
        axis = quantization.scalar(6, "i", 0)
        _check_quantization(name, shape, scale, zero_point, axis)
    return FileTensor(
        index,
        name,
        shape,
        DTYPES[kind],
        scale,
        zero_point,
        axis,
        _constant(buffers, buffer, shape, DTYPES[kind], name),
    )


def _check_quantization(
    name: str, shape: tuple[int, ...], scale: Array, zero_point: Array, axis: int
) -> None:
    if scale.size > 1 and not (0 <= axis < len(shape) and scale.size == shape[axis]):
        raise GraphError(f"tensor '{name}' of shape {shape} has {scale.size} scales along axis {axis}")
    if zero_point.size not in (0, 1, scale.size):
        raise GraphError(f"tensor '{name}' has {scale.size} scales and {zero_point.size} zero points")
    if not np.all(np.isfinite(scale) & (scale > 0)):
        raise GraphError(f"tensor '{name}' has a scale that is not positive and finite")


def _constant(
    buffers: list[_Table], buffer: int, shape: tuple[int, ...], dtype: str, name: str
) -> Array | None:
    data = buffers[buffer].vector(0, "u1") if buffers else np.zeros(0, np.uint8)
    if not data.size:
        return None
    kind = np.dtype(dtype).newbyteorder("<")
    if data.size != math.prod(shape) * kind.itemsize:
        raise GraphError(f"tensor '{name}' of shape {shape} {dtype} has {data.size} bytes of data")
    return np.frombuffer(data.tobytes(), kind).reshape(shape).astype(dtype)


def _operator(index: int, table: _Table, codes: list[str], tensors: int) -> FileOperator:
    code = table.scalar(0, "I", 0)
    if code >= len(codes):
        raise GraphError(f"operator {index} has code {code} of {len(codes)}")
    inputs = _indices(table, 1, tensors, f"operator {index}", optional=True)
    outputs = _indices(table, 2, tensors, f"operator {index}")
    slots, options = _SLOTS.get(codes[code], ()), table.table(4)
    values = {
        name: default if options is None else options.scalar(slot, form, default)
        for slot, (name, form, default) in enumerate(slots)
    }
    return FileOperator(codes[code], index, inputs, outputs, values)


def _indices(table: _Table, slot: int, tensors: int, what: str, optional: bool = False) -> tuple[int, ...]:
    found = tuple(int(index) for index in table.vector(slot, "<i4"))
    if any(not (-1 if optional else 0) <= index < tensors for index in found):
        raise GraphError(f"{what} names a tensor outside the {tensors} of the file: {found}")
    return found
