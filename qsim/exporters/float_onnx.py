"""A Graph as a float32 ONNX file, which `qsim.load_model` reads back as the same graph.

Names of layers and tensors stay, and so does `Graph.hash`: plans made for the graph fit the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from qsim.exporters.onnx_model import initializer, onnx_model, onnx_node

if TYPE_CHECKING:
    from qsim.graph import Graph


def export_float(graph: Graph, path: str | Path) -> Path:
    """Write `graph` to `path` (.onnx); returns the path."""
    path = Path(path)
    nodes = [onnx_node(node, [name or "" for name in node.inputs]) for node in graph.nodes]
    parameters = {name: initializer(name, array) for name, array in graph.parameters.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx_model(graph, nodes, parameters, {}), path)
    return path
