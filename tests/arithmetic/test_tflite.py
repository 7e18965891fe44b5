"""The TFLite reader: what a file becomes, and that a damaged or hostile file is one clear error."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsim.arithmetic.integer import is_integer_only, run_integer
from qsim.errors import GraphError, UserError
from qsim.graph.tflite import load_tflite, read_tflite
from qsim.plan import BitPlan

OWN = Path(__file__).parents[1] / "golden" / "own" / "tflite"
MOBILE = OWN / "mobile.tflite"


def test_a_network_becomes_a_real_graph_and_an_integer_plan(tmp_path: Path) -> None:
    model = load_tflite(MOBILE)
    assert is_integer_only(model.graph, model.plan)
    assert model.plan.model_hash == model.graph.hash
    assert model.graph.tensors[model.graph.inputs[0]].shape == ("batch", 10, 10, 3)
    kinds = [(layer.kind, layer.groups, layer.reduction_length) for layer in model.graph.layers]
    assert kinds == [("conv", 1, 27), ("depthwise", 6, 9), ("linear", 1, 12), ("linear", 1, 7)]
    for layer in model.graph.layers:
        weights = model.plan.tensors[layer.weights]
        assert weights.codes is not None
        assert weights.codes.dtype == np.int8
        assert weights.codes.shape == model.graph.parameters[layer.weights].shape
        assert model.plan.layers[layer.name].requantize in ("tflite_double", "tflite_float")
    x = np.random.default_rng(1).integers(-128, 128, (3, 10, 10, 3)).astype(np.int8)
    codes = run_integer(model.graph, model.plan, {model.graph.inputs[0]: x})
    read = BitPlan.load(model.plan.save(tmp_path / "plan.json"))
    again = run_integer(model.graph, read, {model.graph.inputs[0]: x})
    assert all(np.array_equal(codes[name], again[name]) for name in codes)


def test_the_real_graph_computes_what_the_codes_stand_for() -> None:
    """In real numbers, without any rounding, the network lies near its integers."""
    import torch

    from qsim.arithmetic.integer import affine_of
    from qsim.emulator.execute import run_graph

    model = load_tflite(OWN / "attention.tflite")
    (source,), (target,) = model.graph.inputs, model.graph.outputs
    x = np.random.default_rng(2).integers(-128, 128, (40, 6, 8)).astype(np.int8)
    real = run_graph(model.graph, {source: torch.from_numpy(affine_of(model.plan, source).dequantize(x))})[
        target
    ].numpy()
    codes = run_integer(model.graph, model.plan, {source: x})[target]
    ours = affine_of(model.plan, target).dequantize(codes)
    assert np.corrcoef(real.ravel(), ours.ravel())[0, 1] > 0.9


@settings(max_examples=300)
@given(st.data())
def test_damaged_files_are_one_line_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Cut anywhere, or with any word replaced, a file is read or refused, never anything else."""
    content = bytearray(MOBILE.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    else:
        at = data.draw(st.integers(0, len(content) - 4))
        struct.pack_into(
            "<I", content, at, data.draw(st.one_of(st.integers(0, 2**32 - 1), st.just(0), st.integers(0, 64)))
        )
    path = tmp_path_factory.getbasetemp() / "damaged.tflite"
    path.write_bytes(content)
    try:
        load_tflite(path)
    except UserError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)


def test_what_is_no_tflite_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="cannot read"):
        read_tflite(tmp_path / "absent.tflite")
    for content in (b"", b"TFL3", b"PK\x03\x04 and more", bytes(64)):
        (tmp_path / "x.tflite").write_bytes(content)
        with pytest.raises(GraphError, match="not a TFLite file"):
            read_tflite(tmp_path / "x.tflite")
