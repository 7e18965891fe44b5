"""Exporters: a plan in the form that a compiler or runtime reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsim.errors import UserError

if TYPE_CHECKING:
    from qsim.graph import Graph
    from qsim.plan import BitPlan

FORMATS = ("qdq",)


def export(graph: Graph, plan: BitPlan, format: str, path: str | Path, **options: Any) -> Path:
    """Write `plan` on `graph` in `format` ("qdq": ONNX with QuantizeLinear / DequantizeLinear pairs).

    Raises UserError for an unknown format, and naming the tensor that the format cannot hold.
    """
    exporters: dict[str, Callable[..., Path]] = {}
    if format == "qdq":
        from qsim.exporters.qdq import export_qdq

        exporters["qdq"] = export_qdq
    if format not in exporters:
        raise UserError(f"export format '{format}' is unknown; there is {', '.join(FORMATS)}")
    return exporters[format](graph, plan, path, **options)
