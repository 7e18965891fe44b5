"""What is said of a graph without running it: layers, MACs, chains, who may be quantized, who shares a format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from qsim.graph import Graph, load_model, not_quantizable, quantizable, share_groups, state_pairs
from tests.operators.reference import check, make_model, saved

RNG = np.random.default_rng(29)


def real(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def load(nodes: list[onnx.NodeProto], x: np.ndarray, parameters: dict[str, np.ndarray], folder: Path,
         outputs: tuple[str, ...] = ("y",), shape: list[int | str] | None = None) -> Graph:  # fmt: skip
    inputs = {"x": (x, shape or ["batch", *x.shape[1:]])}
    return load_model(saved(make_model(nodes, inputs, outputs, parameters), folder))


def test_convolutions(tmp_path: Path) -> None:
    nodes = [
        helper.make_node(
            "Conv", ["x", "a"], ["h"], name="grouped", group=2, pads=[1, 1, 1, 1], strides=[2, 1]
        ),
        helper.make_node("Conv", ["h", "b", "bias"], ["i"], name="depthwise", group=6),
        helper.make_node("ConvTranspose", ["i", "c"], ["y"], name="up", strides=[2, 2]),
    ]
    parameters = {"a": real(6, 2, 3, 3), "b": real(6, 1, 3, 3), "bias": real(6), "c": real(6, 5, 4, 4)}
    graph = load(nodes, real(1, 4, 8, 8), parameters, tmp_path)
    grouped, depthwise, up = graph.layers
    assert (grouped.kind, grouped.macs, grouped.groups, grouped.stride) == ("conv", 6 * 4 * 8 * 18, 2, (2, 1))
    assert (grouped.input_shape, grouped.output_shape, grouped.reduction_length) == ((4, 8, 8), (6, 4, 8), 18)
    assert (depthwise.kind, depthwise.macs, depthwise.parameters) == ("depthwise", 6 * 2 * 6 * 9, 60)
    assert (up.kind, up.macs, up.weight_axis) == ("transposed_conv", 6 * 2 * 6 * 5 * 16, 1)
    assert up.reduction_axes == (0, 2, 3)
    assert up.reduction_length == 6 * 2 * 2


def test_attention_products_are_layers_of_two_activations(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"]),
        helper.make_node("MatMul", ["x", "wk"], ["k"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s"]),
        helper.make_node("Mul", ["s", "scale"], ["s2"]),
        helper.make_node("Softmax", ["s2"], ["p"], axis=-1),
        helper.make_node("Einsum", ["p", "x"], ["y"], equation="bij,bjk->bik"),
    ]
    parameters = {"wq": real(8, 8), "wk": real(8, 8), "scale": np.array(0.3, np.float32)}
    graph = load(nodes, real(1, 5, 8), parameters, tmp_path)
    _, _, scores, mix = graph.layers
    assert (scores.kind, scores.input, scores.weights, scores.macs) == ("matmul", "q", "kt", 5 * 5 * 8)
    assert (scores.weight_axis, scores.parameters, scores.output) == (None, 0, "s2")
    assert (mix.kind, mix.input, mix.weights, mix.macs, mix.reduction_length) == ("matmul", "p", "x", 200, 5)
    assert frozenset({"k", "kt"}) in share_groups(graph)
    assert set(quantizable(graph)) == {"x", "wq", "wk", "q", "kt", "p"}


def test_a_parameter_on_the_left_and_fixed_batches(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["w", "x"], ["y"])]
    graph = load(nodes, real(4, 6, 3), {"w": real(5, 6)}, tmp_path, shape=[4, 6, 3])
    (layer,) = graph.layers
    assert (layer.kind, layer.input, layer.weights, layer.weight_axis, layer.reduction_axes) == (
        "linear", "x", "w", 0, (1,),
    )  # fmt: skip
    assert layer.macs == 5 * 6 * 3  # of one of the four samples


def test_recurrent_layers_have_two_products(tmp_path: Path) -> None:
    node = helper.make_node(
        "LSTM", ["x", "w", "r", "b", "", "h", "c"], ["y", "yh", "yc"], name="lstm", hidden_size=6
    )
    state = real(1, 1, 6)
    parameters = {"w": real(1, 24, 4), "r": real(1, 24, 6), "b": real(1, 48)}
    inputs = {"x": (real(7, 1, 4), ["time", 1, 4]), "h": state, "c": state}
    path = saved(make_model([node], inputs, ["y", "yh", "yc"], parameters), tmp_path)
    graph = load_model(path, {"x": real(7, 1, 4)})
    first, second = graph.layers
    assert (first.name, first.weights, first.macs, first.bias) == ("lstm", "w", 24 * 4, "b")
    assert (second.name, second.weights, second.input, second.macs) == ("lstm/recurrent", "r", "h", 24 * 6)
    assert state_pairs(graph) == (("h", "yh"), ("c", "yc"))
    assert [graph.tensors[name].kind for name in graph.inputs] == ["input", "state", "state"]
    assert frozenset({"h", "yh"}) in share_groups(graph)


def test_a_recurrent_layer_of_which_only_the_last_state_is_read(tmp_path: Path) -> None:
    node = helper.make_node("LSTM", ["x", "w", "r"], ["", "y"], name="lstm", hidden_size=4)
    graph = load([node], real(5, 2, 3), {"w": real(1, 16, 3), "r": real(1, 16, 4)}, tmp_path, shape=[5, 2, 3])
    assert [(layer.name, layer.output) for layer in graph.layers] == [("lstm", "y"), ("lstm/recurrent", "y")]


def test_a_cache_that_a_concat_extends_is_a_state(tmp_path: Path) -> None:
    node = helper.make_node("Concat", ["past", "x"], ["grown"], axis=1)
    model = make_model([node], {"x": real(1, 1, 4), "past": (real(1, 3, 4), [1, "length", 4])}, ["grown"])
    graph = load_model(saved(model, tmp_path), {"past": real(1, 3, 4)})
    assert graph.tensors["past"].kind == "state"
    assert frozenset({"past", "x", "grown"}) in share_groups(graph)


def chain(
    nodes: list[onnx.NodeProto], folder: Path, outputs: tuple[str, ...] = ("y",)
) -> tuple[str, str | None]:
    constants = {"bias": real(6), "three": 3, "zero": 0, "six": 6, "half": 0.5, "root": 2**0.5, "one": 1}
    parameters = {k: np.array(v, np.float32) for k, v in constants.items()} | {"w": real(4, 6)}
    first = helper.make_node("MatMul", ["x", "w"], ["c"])
    (layer,) = load([first, *nodes], real(1, 4), parameters, folder, outputs).layers
    return layer.output, layer.bias


def test_the_fused_chain_ends_after_bias_and_activation(tmp_path: Path) -> None:
    add = helper.make_node("Add", ["bias", "c"], ["d"])
    assert chain([add, helper.make_node("Relu", ["d"], ["y"])], tmp_path) == ("y", "bias")
    soft = [add, helper.make_node("HardSwish", ["d"], ["e"]), helper.make_node("Softmax", ["e"], ["y"])]
    assert chain(soft, tmp_path) == ("e", "bias")


def test_an_activation_written_out_in_several_nodes_belongs_to_the_chain(tmp_path: Path) -> None:
    def node(op: str, *names: str) -> onnx.NodeProto:
        return helper.make_node(op, list(names[:-1]), [names[-1]])

    swish = [node("Sigmoid", "c", "s"), node("Mul", "c", "s", "y")]
    assert chain(swish, tmp_path) == ("y", None)
    hard = [node("Add", "c", "three", "a"), node("Clip", "a", "zero", "six", "b"), node("Mul", "c", "b", "d"),
            node("Div", "d", "six", "y")]  # fmt: skip
    assert chain(hard, tmp_path) == ("y", None)
    gelu = [node("Div", "c", "root", "a"), node("Erf", "a", "b"), node("Add", "b", "one", "d"),
            node("Mul", "c", "d", "e"), node("Mul", "e", "half", "y")]  # fmt: skip
    assert chain(gelu, tmp_path) == ("y", None)


def test_a_tensor_that_something_else_reads_ends_the_chain(tmp_path: Path) -> None:
    relu = helper.make_node("Relu", ["c"], ["y"])
    assert chain([relu], tmp_path, ("y", "c"))[0] == "c"
    both = [relu, helper.make_node("Softmax", ["c"], ["z"])]
    assert chain(both, tmp_path, ("y", "z"))[0] == "c"


def test_squeeze_excite_residual_and_concat_groups(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["s"]),
        helper.make_node("MaxPool", ["s"], ["p"], kernel_shape=[1, 1]),
        helper.make_node("Sigmoid", ["p"], ["g"]),
        helper.make_node("Mul", ["p", "g"], ["m"]),
        helper.make_node("Concat", ["m", "p"], ["y"], axis=1),
    ]
    graph = load(nodes, real(1, 4, 3, 3), {"w": real(4, 4, 1, 1)}, tmp_path)
    assert set(share_groups(graph)) == {frozenset("ab"), frozenset("spmy")}
    reasons = not_quantizable(graph)
    assert set(reasons) | set(quantizable(graph)) == set(graph.tensors)
    assert reasons["g"] == "enters no multiply-accumulate layer"


def test_the_hash_follows_content_not_file_name(tmp_path: Path) -> None:
    def build(weight: np.ndarray, name: str) -> Graph:
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        (tmp_path / name).mkdir(exist_ok=True)
        return load([node], real(1, 4), {"w": weight}, tmp_path / name)

    w = real(4, 6)
    changed = w.copy()
    changed[0, 0] = np.nextafter(w[0, 0], 1)
    assert build(w, "a").hash == build(w, "b").hash
    assert build(w, "a").hash != build(changed, "a").hash
    assert len(build(w, "a").hash) == 64


def test_summary_is_a_table_of_layers_and_totals(tmp_path: Path) -> None:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="head")
    lines = load([node], real(1, 4), {"w": real(4, 6), "b": real(6)}, tmp_path).summary().splitlines()
    assert lines[0].split()[0] == "layer"
    assert lines[1].split() == ["head", "linear", "w", "4x6", "6", "24", "30"]
    assert lines[-1].endswith("1 layers, 24 MACs, 30 parameters, batch = 1")


def test_dynamic_dimensions_are_named_after_the_inputs(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "rows"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
        helper.make_node("NonZero", ["x"], ["z"]),
    ]
    x = real(2, 8, 4)
    parameters = {"rows": np.array([-1, 4]), "w": real(4, 3)}
    model = make_model(nodes, {"x": (x, ["batch", "time", 4])}, ["y", "z"], parameters)
    graph = check(model, {"x": x}, tmp_path)
    assert graph.tensors["r"].shape == ("batch*time", 4)
    assert graph.tensors["z"].shape == (3, "4*batch*time")
    assert graph.lengths["batch"] == 1


def test_the_graph_package_imports_no_torch() -> None:
    code = "import sys, qsim.graph; print(any(m in sys.modules for m in ('torch', 'onnx', 'pandas')))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
