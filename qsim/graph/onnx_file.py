"""Reading an ONNX file that may come from anywhere.

Data outside the file is read only from plain files below the model's own folder. What is wrong with a file is said in
one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import inliner as onnx_inliner

from qsim.errors import GraphError

OLDEST_OPSET, NEWEST_OPSET = 7, 24


def read_model(path: Path) -> onnx.ModelProto:
    """The model in `path`, with its external data loaded and its local functions inlined.

    Raises GraphError for a missing or unreadable file, an unsafe external location and an opset out of range.
    """
    if not path.is_file():
        raise GraphError(f"model file '{path}' does not exist")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise GraphError(f"'{path}' is not an ONNX file: {_first_line(error)}") from error
    if not model.HasField("graph") or not model.graph.output:
        raise GraphError(f"'{path}' is not an ONNX file: it holds no graph with outputs")
    _check_opset(model, path)
    _load_external(model, path)
    if model.functions:
        try:
            model = onnx_inliner.inline_local_functions(model, convert_version=False)
        except Exception as error:  # the inliner is C++ and raises bare RuntimeError subclasses
            raise GraphError(
                f"'{path}': its local functions cannot be inlined: {_first_line(error)}"
            ) from error
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operator set."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def _check_opset(model: onnx.ModelProto, path: Path) -> None:
    version = opset_of(model)
    if not OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise GraphError(
            f"'{path}' uses ONNX opset {version}; supported are opsets {OLDEST_OPSET} to {NEWEST_OPSET}"
            " (convert it with onnx.version_converter)"
        )


def _load_external(model: onnx.ModelProto, path: Path) -> None:
    folder = path.resolve().parent
    for tensor in _tensors(model.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        target = folder / location
        inside = (
            bool(location) and target.resolve().is_relative_to(folder) and not Path(location).is_absolute()
        )
        if not inside or target.is_symlink():
            raise GraphError(
                f"'{path}': tensor '{tensor.name}' points outside the model's folder: '{location}'"
            )
        if not target.is_file():
            raise GraphError(
                f"'{path}': tensor '{tensor.name}' needs the file '{target}', which does not exist"
            )
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except Exception as error:  # the helper raises what its checker raises
            raise GraphError(f"'{path}': tensor '{tensor.name}': {_first_line(error)}") from error
        tensor.data_location = onnx.TensorProto.DEFAULT


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from _tensors(attribute.g)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).strip().split("\n", 1)[0].split()) or type(error).__name__
