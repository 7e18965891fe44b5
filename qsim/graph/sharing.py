"""Which tensors may take a number system, and which must take the same one."""

from __future__ import annotations

from dataclasses import replace

from qsim.graph.ir import Graph


def mark_states(graph: Graph) -> Graph:
    return replace(graph)
