"""Running a graph: the hook sees every tensor, memory is freed, inputs are checked."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper

from qsim.emulator.execute import run_graph
from qsim.emulator.operators import apply
from qsim.errors import GraphError
from qsim.graph import Graph, Node, load_model
from tests.operators.reference import make_model, saved


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="product"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Add", ["b", "k"], ["y"], name="sum"),
    ]
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    inputs = {"x": (np.ones((1, 2), np.float32), ["n", 2]), "k": (np.ones((1, 3), np.float32), ["n", 3])}
    return load_model(saved(make_model(nodes, inputs, ["y"], {"w": weight}), tmp_path))


def ones(n: int = 4) -> dict[str, torch.Tensor]:
    return {"x": torch.ones(n, 2), "k": torch.ones(n, 3)}


def test_outputs_and_kept_tensors_come_back(graph: Graph) -> None:
    result = run_graph(graph, ones(), keep=["a", "w"])
    assert list(result) == ["y", "a", "w"]
    assert result["y"].tolist() == [[4.0, 6.0, 8.0]] * 4
    with pytest.raises(GraphError, match="no tensor 'nothing' to keep"):
        run_graph(graph, ones(), keep=["nothing"])


def test_transform_sees_every_tensor_once_and_replaces_it(graph: Graph) -> None:
    seen: list[str] = []

    def double_weights(name: str, value: torch.Tensor) -> torch.Tensor:
        seen.append(name)
        return 2 * value if name == "w" else value

    result = run_graph(graph, ones(), transform=double_weights)
    assert sorted(seen) == ["a", "b", "k", "w", "x", "y"]
    assert result["y"][0].tolist() == [7.0, 11.0, 15.0]


def test_run_node_stands_in_for_the_float_operator(graph: Graph) -> None:
    def negated(node: Node, values: list[torch.Tensor | None]) -> tuple[torch.Tensor, ...]:
        return tuple(-v for v in apply(node, values)) if node.op == "MatMul" else apply(node, values)

    assert run_graph(graph, ones(), run_node=negated)["y"][0].tolist() == [1.0, 1.0, 1.0]  # type: ignore[arg-type]


def test_a_tensor_is_freed_after_its_last_use(graph: Graph) -> None:
    alive: dict[str, weakref.ref[torch.Tensor]] = {}
    at_sum: list[bool] = []

    def watch(name: str, value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        alive[name] = weakref.ref(value)
        if name == "y":
            at_sum.append(alive["a"]() is None and alive["x"]() is None and alive["w"]() is None)
        return value

    run_graph(graph, ones(), transform=watch)
    assert at_sum == [True]


def test_inputs_are_checked_by_name_rank_length_and_type(graph: Graph) -> None:
    with pytest.raises(GraphError, match="has no input 'z'; its inputs are x, k"):
        run_graph(graph, {**ones(), "z": torch.ones(1)})
    with pytest.raises(GraphError, match="needs the input 'k'"):
        run_graph(graph, {"x": torch.ones(1, 2)})
    with pytest.raises(GraphError, match=r"'x' has shape \[4, 3\]; the graph expects \[n, 2\]"):
        run_graph(graph, {**ones(), "x": torch.ones(4, 3)})
    with pytest.raises(GraphError, match=r"'x' has shape \[2\]"):
        run_graph(graph, {**ones(), "x": torch.ones(2)})
    with pytest.raises(GraphError, match=r"with n = 4 as in another input"):
        run_graph(graph, {**ones(), "k": torch.ones(5, 3)})


def test_float64_and_integers_become_the_graphs_type(graph: Graph) -> None:
    values = {"x": torch.ones(4, 2, dtype=torch.float64), "k": torch.ones(4, 3, dtype=torch.uint8)}
    assert run_graph(graph, values)["y"].dtype == torch.float32


def test_empty_non_contiguous_and_non_finite_inputs(graph: Graph) -> None:
    assert run_graph(graph, ones(0))["y"].shape == (0, 3)
    strided = torch.ones(2, 4).T
    assert run_graph(graph, {**ones(), "x": strided})["y"][0].tolist() == [4.0, 6.0, 8.0]
    y = run_graph(graph, {**ones(), "x": torch.full((4, 2), torch.nan)})["y"]
    assert torch.isnan(y).all()


def test_an_error_names_the_node_and_the_shapes() -> None:
    node = Node("here", "MatMul", ("a", "b"), ("y",))
    with pytest.raises(GraphError, match=r"node 'here' \(MatMul\) on inputs \[2, 3\], \[2, 3\]"):
        apply(node, (torch.ones(2, 3), torch.ones(2, 3)))
    with pytest.raises(GraphError, match="operator Nothing is not supported"):
        apply(Node("here", "Nothing", (), ("y",)), ())


def test_an_index_out_of_range_is_no_silent_number() -> None:
    node = Node("embed", "Gather", ("t", "i"), ("y",))
    with pytest.raises(GraphError, match=r"index 0 \.\. 7 is outside an axis of length 5"):
        apply(node, (torch.ones(5, 2), torch.tensor([0, 7])))
