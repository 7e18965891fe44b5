"""ONNX files become graphs: folding, naming, dynamic dimensions, and one clear line for what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qsim.errors import GraphError
from qsim.graph import load_model, share_groups
from tests.operators.reference import check, make_model, saved

RNG = np.random.default_rng(11)


def real(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("opset", range(11, 22))
def test_a_small_network_in_every_opset(opset: int, tmp_path: Path) -> None:
    """Asymmetric padding, batch norm, Relu6, squeeze-excite, residual addition, flatten, softmax, dynamic batch."""
    axes = {} if opset >= 18 else {"axes": [2, 3]}
    reduce_inputs = ["r", "axes"] if opset >= 18 else ["r"]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], pads=[0, 0, 1, 1], strides=[2, 2], name="stem"),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"]),
        helper.make_node("Clip", ["n", "zero", "six"], ["r"]),
        helper.make_node("ReduceMean", reduce_inputs, ["p"], keepdims=1, **axes),
        helper.make_node("Conv", ["p", "w2"], ["s1"], name="squeeze"),
        helper.make_node("HardSigmoid", ["s1"], ["s2"], alpha=0.25, beta=0.5),
        helper.make_node("Mul", ["r", "s2"], ["e"]),
        helper.make_node("Add", ["e", "r"], ["a"]),
        helper.make_node("GlobalAveragePool", ["a"], ["q"]),
        helper.make_node("Dropout", ["q"], ["d"]),
        helper.make_node("Flatten", ["d"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["l"], transB=1, name="head"),
        helper.make_node("Softmax", ["l"], ["y"], axis=1),
    ]
    parameters = {
        "w1": real(8, 3, 3, 3), "g": real(8), "b": real(8), "m": real(8), "v": np.abs(real(8)) + 0.1,
        "zero": np.array(0, np.float32), "six": np.array(6, np.float32), "w2": real(8, 8, 1, 1),
        "w3": real(5, 8), "b3": real(5), "axes": np.array([2, 3]),
    }  # fmt: skip
    x = real(3, 3, 9, 9)
    graph = check(
        make_model(nodes, {"x": (x, ["batch", 3, 9, 9])}, ["y"], parameters, opset), {"x": x}, tmp_path
    )
    assert [layer.name for layer in graph.layers] == ["stem", "squeeze", "head"]
    assert not {"BatchNormalization", "Dropout"} & {node.op for node in graph.nodes}
    assert graph.tensors["y"].shape == ("batch", 5)
    assert graph.layers[0].output == "r"
    assert graph.macs == 8 * 27 * 16 + 64 + 40


def test_shape_arithmetic_folds_and_keeps_only_the_symbolic_part(tmp_path: Path) -> None:
    """view(x.shape[0], -1, 4) as torch exports it."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "i0"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "a0"], ["n1"]),
        helper.make_node("Gather", ["s", "i1"], ["t"], axis=0),
        helper.make_node("Div", ["t", "four"], ["t4"]),
        helper.make_node("Unsqueeze", ["t4", "a0"], ["t41"]),
        helper.make_node("Concat", ["n1", "t41", "f1"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    constants = {"i0": 0, "i1": 1, "four": 4}
    parameters = {name: np.array(value, np.int64) for name, value in constants.items()}
    parameters |= {"a0": np.array([0]), "f1": np.array([4]), "w": real(4, 3)}
    x = real(2, 8)
    graph = check(make_model(nodes, {"x": (x, ["batch", 8])}, ["y"], parameters), {"x": x}, tmp_path)
    assert [node.op for node in graph.nodes] == ["Reshape", "MatMul"]
    dynamic = check(make_model(nodes, {"x": (x, ["batch", "time"])}, ["y"], parameters), {"x": x}, tmp_path)
    assert dynamic.tensors["r"].shape == ("batch", "time/4", 4)
    assert dynamic.layers[0].output_shape == (dynamic.lengths["time"] // 4, 3)


def test_example_inputs_state_the_sample_lengths(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    x = real(1, 10, 8)
    path = saved(make_model([node], {"x": (x, ["n", "time", 8])}, ["y"], {"w": real(8, 4)}), tmp_path)
    graph = load_model(path, example_inputs=x)
    assert graph.lengths == {"n": 1, "time": 10}
    assert graph.macs == 10 * 8 * 4
    with pytest.raises(GraphError, match="no input 'z'"):
        load_model(path, example_inputs={"z": x})


def test_a_constant_if_takes_its_branch(tmp_path: Path) -> None:
    def branch(op: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(f"{op}_y", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["x"], [f"{op}_y"])], op, [], [value])

    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["n"]),
        helper.make_node("Equal", ["n", "three"], ["condition"]),
        helper.make_node("If", ["condition"], ["y"], then_branch=branch("Relu"), else_branch=branch("Neg")),
    ]
    parameters = {"one": np.array(1), "three": np.array(3)}
    x = real(2, 3)
    graph = check(make_model(nodes, {"x": (x, ["n", 3])}, ["y"], parameters), {"x": x}, tmp_path)
    assert [node.op for node in graph.nodes] == ["Relu"]
    dynamic = make_model(nodes, {"x": (x, ["n", "m"])}, ["y"], parameters)
    with pytest.raises(GraphError, match=r"operator If is supported only where its condition is constant"):
        load_model(saved(dynamic, tmp_path))


def test_equal_weights_are_tied_transposed_copies_too(tmp_path: Path) -> None:
    w = real(8, 12)
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["e"]),
        helper.make_node("MatMul", ["e", "head"], ["h"]),
        helper.make_node("MatMul", ["h", "again"], ["y"]),
    ]
    tokens = np.array([[1, 2, 3]])
    parameters = {"table": w, "head": np.ascontiguousarray(w.T), "again": w.copy()}
    model = make_model(nodes, {"tokens": tokens}, ["y"], parameters)
    graph = check(model, {"tokens": tokens}, tmp_path)
    assert list(graph.parameters) == ["table"]
    assert [layer.weights for layer in graph.layers] == ["table", "table"]
    assert [layer.weight_axis for layer in graph.layers] == [0, 1]
    assert frozenset({"table", "head"}) in share_groups(graph)
    assert graph.parameter_count == w.size


def test_a_tensor_that_is_both_output_and_identity_keeps_both_names(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Identity", ["a"], ["y"]),
        helper.make_node("Identity", ["x"], ["z"]),
        helper.make_node("Neg", ["a"], ["b"]),
    ]
    x = real(2, 3)
    for outputs in (["y", "b"], ["a", "y", "z"], ["z"]):
        graph = check(make_model(nodes, {"x": x}, outputs), {"x": x}, tmp_path)
        assert list(graph.outputs) == outputs


def test_an_initializer_may_be_an_output(tmp_path: Path) -> None:
    w = real(2, 3)
    node = helper.make_node("Add", ["x", "w"], ["y"])
    x = real(2, 3)
    check(make_model([node], {"x": x}, ["y", "w"], {"w": w}), {"x": x}, tmp_path)


# --- what is wrong is said in one line


def fails(path: Path, message: str) -> None:
    with pytest.raises(GraphError, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def one_node(op: str, folder: Path, domain: str = "") -> Path:
    node = helper.make_node(op, ["x"], ["y"], name="here", domain=domain)
    return saved(make_model([node], {"x": real(2, 3)}, ["y"], domains=[domain] if domain else []), folder)


def test_an_unknown_operator_names_node_operator_and_the_nearest(tmp_path: Path) -> None:
    fails(
        one_node("LayerNorm", tmp_path),
        r"node 'here': operator LayerNorm is not supported; .*LayerNormalization",
    )
    fails(one_node("Relu", tmp_path, "my.domain"), r"operator Relu of domain 'my.domain' is not supported")
    fails(one_node("Loop", tmp_path), r"node 'here': operator Loop \(control flow\) is not supported")
    fails(one_node("Scan", tmp_path), "control flow")


def test_files_that_are_no_model(tmp_path: Path) -> None:
    fails(tmp_path / "absent.onnx", "does not exist")
    path = tmp_path / "text.onnx"
    path.write_text("hello")
    fails(path, "is not an ONNX file")
    path.write_bytes(b"")
    fails(path, "holds no graph")
    path.write_bytes(os.urandom(1000))
    fails(path, "is not an ONNX file|holds no graph")
    fails(tmp_path / "weights.pt", "pickle")
    with pytest.raises(GraphError, match="not a int"):
        load_model(3)


def test_truncated_and_inconsistent_files(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    model = make_model([node], {"x": real(2, 4)}, ["y"], {"w": real(4, 5)})
    path = saved(model, tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    fails(path, "is not an ONNX file|holds no graph|does not hold")
    model.graph.initializer[0].dims[0] = 400
    fails(saved(model, tmp_path), "tensor 'w' does not hold what its shape and type say")
    fails(
        saved(make_model([node], {"x": real(2, 4)}, ["y"]), tmp_path),
        "'product' .* reads 'w', which nothing made",
    )
    fails(
        saved(make_model([node], {"x": real(2, 4)}, ["z"], {"w": real(4, 5)}), tmp_path),
        "makes the output 'z'",
    )
    fails(
        saved(make_model([node], {"x": real(2, 3)}, ["y"], {"w": real(4, 5)}), tmp_path),
        r"'product' \(MatMul\)",
    )


def test_external_data_stays_below_the_models_folder(tmp_path: Path) -> None:
    weights = real(4, 5)
    (tmp_path / "model").mkdir()
    node = helper.make_node("MatMul", ["x", "w"], ["y"])

    def with_location(location: str) -> Path:
        model = make_model([node], {"x": real(2, 4)}, ["y"], {"w": weights})
        tensor = model.graph.initializer[0]
        onnx.external_data_helper.set_external_data(tensor, location)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        return saved(model, tmp_path / "model")

    (tmp_path / "outside.bin").write_bytes(weights.tobytes())
    (tmp_path / "model" / "inside.bin").write_bytes(weights.tobytes())
    graph = load_model(with_location("inside.bin"))
    np.testing.assert_array_equal(graph.parameters["w"], weights)
    fails(with_location("../outside.bin"), "points outside the model's folder")
    fails(with_location(str(tmp_path / "outside.bin")), "points outside the model's folder")
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "outside.bin")
    fails(with_location("link.bin"), "points outside the model's folder")
    fails(with_location("absent.bin"), "does not exist")


def test_an_opset_out_of_range(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    fails(
        saved(make_model([node], {"x": real(2)}, ["y"], opset=3), tmp_path), "opset 3; supported are opsets"
    )


def test_strings_and_sequences_are_refused(tmp_path: Path) -> None:
    model = make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": real(2)}, ["y"])
    model.graph.initializer.append(numpy_helper.from_array(np.array(["a"], object), "words"))
    fails(saved(model, tmp_path), "'words' holds strings")


def test_a_huge_constant_is_not_made_on_loading(tmp_path: Path) -> None:
    """The fold stops; the run then says that memory does not do."""
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["huge"]),
        helper.make_node("Add", ["huge", "x"], ["y"], name="bomb"),
    ]
    model = make_model(nodes, {"x": real(1)}, ["y"], {"s": np.array([1 << 40])})
    fails(saved(model, tmp_path), "'bomb'")
