"""pack and unpack: codes as a dense bit string, for every width from 1 to 32 bits and above.

Layout of codes: element i (C order) of b-bit codes takes the bits i*b to i*b + b - 1 of the stream, its
lowest bit first; bit j of the stream is bit j mod 8 (0 the lowest) of byte j // 8. So 4-bit codes put the
first of a pair in the low nibble (as ONNX does), 8, 16 and 32-bit codes are plain little-endian integers, and
the last byte is filled with zeros.

Layout of pack(): the bytes "QSIM", a uint32 (little-endian) n, a JSON text of n bytes that holds spec, shape,
axis, dtype and the shapes of the scales, then codes, zero points and the levels of the scale (innermost
first), each dense and starting on a byte. A scale level is stored in its own format, or as plain floats where
it was given and that format cannot hold it.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsim.casting.elements import cast_to_element
from qsim.casting.encode import Quantized, check_quantized, codes_of
from qsim.casting.groups import level_shapes as level_shapes_of
from qsim.casting.scales import effective_scale
from qsim.errors import UserError
from qsim.formats import FLOAT32, FLOAT64, Element, Table
from qsim.parse import parse
from qsim.spec import Cast, Spec

MAGIC = b"QSIM"


def pack_codes(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """The dense bytes of integer codes of `bits` bits (signed ones as two's complement), ceil(n * bits / 8) of them."""
    flat = np.ascontiguousarray(codes).reshape(-1).astype(np.int64, copy=False)
    if bits in (8, 16, 32, 64):
        return flat.astype(f"<i{bits // 8}").view(np.uint8)
    stream = (flat[:, None] >> np.arange(bits) & 1).astype(np.uint8)
    return np.packbits(stream.reshape(-1), bitorder="little")


def unpack_codes(data: NDArray[np.uint8], bits: int, count: int, signed: bool) -> NDArray[np.int64]:
    """`count` codes of `bits` bits from dense bytes; `signed` ones are sign-extended.

    Raises UserError where `data` is too short.
    """
    if len(data) < -(-count * bits // 8):
        raise UserError(f"{count} codes of {bits} bits need {-(-count * bits // 8)} bytes, not {len(data)}")
    stream = np.unpackbits(data, count=count * bits, bitorder="little").reshape(count, bits)
    codes = np.zeros(count, dtype=np.int64)
    for position in range(bits):
        codes |= stream[:, position].astype(np.int64) << position
    if signed and bits < 64:
        codes = (codes ^ (1 << bits - 1)) - (1 << bits - 1)
    return codes


def pack(q: Quantized) -> bytes:
    """`q` as self-describing bytes, the codes dense; unpack(pack(q)) gives the same codes, scales and values."""
    check_quantized(q, "pack")
    element = q.spec.element
    sections, levels = [pack_codes(np.asarray(q.codes), element.bits)], []
    if q.zero_point is not None:
        sections.append(pack_codes(np.asarray(q.zero_point), element.bits))
    for level, stored in zip(q.levels, _level_formats(q), strict=True):
        values = np.asarray(level, dtype=np.float64)
        sections.append(pack_codes(codes_of(values, stored), stored.bits))
        levels.append({"shape": list(values.shape), "format": str(stored)})
    header: dict[str, Any] = {"spec": str(q.spec), "shape": list(q.shape), "axis": q.axis, "dtype": q.dtype}
    header |= {"levels": levels, "zero_point": None if q.zero_point is None else list(q.zero_point.shape)}
    if isinstance(element, Table):
        header["table"] = list(element.entries)
    text = json.dumps(header).encode()
    return b"".join(
        [MAGIC, len(text).to_bytes(4, "little"), text, *(section.tobytes() for section in sections)]
    )


def _level_formats(q: Quantized) -> list[Element]:
    """What each scale level is stored in: its own format if that holds it, else float32 or float64."""
    formats, scale = [], q.spec.scale
    for level in q.levels:
        assert scale is not None
        values = np.asarray(level, dtype=np.float64)
        fits = np.array_equal(cast_to_element(values, scale.element, Cast()), values)
        formats.append(scale.element if fits else FLOAT32 if q.dtype == "float32" else FLOAT64)
        scale = scale.scale
    return formats


def unpack(data: bytes) -> Quantized:
    """The Quantized of `pack`'s bytes. Raises UserError for bytes that pack() cannot have written."""
    if not isinstance(data, bytes | bytearray | memoryview | np.ndarray):
        raise UserError(f"unpack takes the bytes of pack, not {type(data).__name__}")
    raw = bytes(data)
    if raw[:4] != MAGIC or len(raw) < 8:
        raise UserError("not a packed tensor: it does not start with QSIM and the length of a header")
    start = 8 + int.from_bytes(raw[4:8], "little")
    try:
        header = json.loads(raw[8:start])
        spec, shape, axis, dtype = _bound(parse(header["spec"]), header), *_array_facts(header)
        formats = [parse(level["format"]).element for level in header["levels"]]
        level_shapes = [tuple(level["shape"]) for level in header["levels"]]
        offset_shape = None if header["zero_point"] is None else tuple(header["zero_point"])
        wanted = level_shapes_of(spec, shape, axis)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise UserError(f"not a packed tensor: its header is damaged ({error})") from None
    # A scale may have been given as one number in the place of all levels.
    are_known = level_shapes == wanted[: len(level_shapes)] and bool(level_shapes) == bool(wanted)
    if not are_known or offset_shape != (wanted[0] if spec.has_zero_point else None):
        raise UserError(f"not a packed tensor: its scales are not those of {spec} and shape {shape}")
    body = _Sections(np.frombuffer(raw, dtype=np.uint8, offset=min(start, len(raw))))
    codes = body.take(spec.element, shape).astype(spec.element.code_dtype)
    offset = None if offset_shape is None else body.take(spec.element, offset_shape)
    stored = [body.take(f, s) for f, s in zip(formats, level_shapes, strict=True)]
    if len(body.data):
        raise UserError(f"not a packed tensor: {len(body.data)} bytes too many")
    levels = tuple(f.decode(codes).astype(dtype) for f, codes in zip(formats, stored, strict=True))
    scale = effective_scale(levels, spec, axis) if levels else None
    return Quantized(codes, scale, offset, spec, shape, axis, levels, dtype)


def _array_facts(header: dict[str, Any]) -> tuple[tuple[int, ...], int, str]:
    """(shape, axis, dtype), checked: ValueError for what no array of floats has."""
    shape, axis, dtype = tuple(header["shape"]), header["axis"], header["dtype"]
    if any(type(n) is not int or n < 0 for n in shape) or type(axis) is not int:
        raise ValueError(f"shape {shape}, axis {axis}")
    if shape and not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis {axis} of shape {shape}")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype {dtype}")
    return shape, axis, dtype


def _bound(spec: Spec, header: dict[str, Any]) -> Spec:
    return spec.bind({spec.element.label: header["table"]}) if isinstance(spec.element, Table) else spec


class _Sections:
    """Reads one dense section after the other."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self.data = data

    def take(self, element: Element, shape: tuple[int, ...]) -> NDArray[np.int64]:
        count = math.prod(shape)
        size = -(-count * element.bits // 8)
        section, self.data = self.data[:size], self.data[size:]
        signed = element.codes_are_signed and element.signed
        return unpack_codes(section, element.bits, count, signed).reshape(shape)
