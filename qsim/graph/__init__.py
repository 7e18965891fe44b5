"""The one graph of a network, its importers and what can be said about it without running it."""

from __future__ import annotations

from qsim.graph.ir import Graph, Node, Tensor
from qsim.graph.layers import Layer
from qsim.graph.load import load_model
from qsim.graph.sharing import not_quantizable, quantizable, share_groups, state_pairs

__all__ = [
    "Graph",
    "Layer",
    "Node",
    "Tensor",
    "load_model",
    "not_quantizable",
    "quantizable",
    "share_groups",
    "state_pairs",
]
