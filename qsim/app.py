"""qsim-emulate and qsim-export: one plan on one model, from the command line."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from qsim import command_line
from qsim.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger("qsim.emulate")


def emulate_main() -> None:
    """Entry point of `qsim-emulate`."""
    command_line.run(_emulate, "qsim_emulate")


def export_main() -> None:
    """Entry point of `qsim-export`."""
    command_line.run(_export, "qsim_export")


def _emulate(config: DictConfig) -> float:
    """Accuracy of a plan (or of the float32 network) and the error of every layer."""
    from rich.console import Console
    from rich.table import Table

    import qsim
    from qsim.metrics import Samples, get_metric

    graph = command_line.open_model(config.model)
    data = command_line.open_data(config.data, graph)
    metric = get_metric(config.metric.name)
    plan = None if config.plan is None else qsim.BitPlan.load(config.plan)
    inputs = dict(data.evaluation)
    reference = qsim.emulate(graph, None, inputs).output
    run = qsim.emulate(
        graph, plan, inputs, arithmetic=config.arithmetic, seed=config.seed, trace="layers" if plan else ()
    )
    first = next(iter(inputs.values()))
    value = metric.value(metric.score(Samples(run.output, reference, first, data.labels)))
    exact = metric.value(metric.score(Samples(reference, reference, first, data.labels)))
    table = Table("layer", "arithmetic", "SQNR (dB)")
    for layer in run.layers:
        table.add_row(layer.name, layer.arithmetic, "-" if layer.sqnr_db is None else f"{layer.sqnr_db:.2f}")
    console = Console()
    console.print(table)
    console.print(f"{metric.name} {value:.4f} on {data.samples} samples; float32 {exact:.4f}")
    folder = Path(config.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    summary = {
        "metric": metric.name,
        "value": value,
        "float32": exact,
        "samples": data.samples,
        "plan": None if plan is None else plan.id,
        "arithmetic": run.arithmetic,
        "layers": [vars(layer) for layer in run.layers],
    }
    (folder / "emulation.json").write_text(json.dumps(summary, indent=1) + "\n")
    console.print(str(folder / "emulation.json"), highlight=False)
    return value


def _export(config: DictConfig) -> None:
    """One plan to one or all compiler formats."""
    import qsim

    if config.plan is None:
        raise UserError("plan is not given: add, for instance, plan=runs/<run>/plans/<id>.json")
    graph = command_line.open_model(config.model)
    plan = qsim.BitPlan.load(config.plan)
    folder = Path(config.run_dir)
    for name in config.export.formats:
        path = qsim.export(graph, plan, name, folder / f"{Path(config.plan).stem}.{name}.onnx")
        print(path)
