"""qsim-search: the main job from the command line."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsim import command_line
from qsim.errors import UserError
from searches.progress import JobProgress

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from qsim.graph import Graph
    from searches.candidates import Candidates, Choice
    from searches.evaluate import Evaluator
    from searches.main_job import MainJob, Outcome, Settings

SMALL_NETWORK_MACS = 5_000_000
log = logging.getLogger("qsim.search")


def main() -> None:
    """Entry point of `qsim-search`."""
    command_line.run(search, "qsim_search")


def search(config: DictConfig) -> float:
    """One run: returns the chosen plan's cost (what Hydra's sweepers would minimise)."""
    start = time.perf_counter()
    log.info("reading model %s", config.model.name)
    graph = command_line.open_model(config.model)
    _set_threads(config.threads, graph)
    with JobProgress() as progress:
        job = _prepare(config, graph, progress)
        _check_float(config, job.ledger.evaluator, job.settings.seed)
        progress.expect(job.expected_steps())
        outcome = job.run()
    folder = Path(config.run_dir)
    exported = _write(folder, config, job, outcome)
    _present(folder, job, outcome, exported, time.perf_counter() - start)
    chosen = outcome.rows[outcome.rows["plan_id"] == outcome.chosen].iloc[0]
    return float(chosen[outcome.objective])


def _set_threads(threads: int | None, graph: Graph) -> None:
    import torch

    if threads is not None or graph.macs < SMALL_NETWORK_MACS:
        torch.set_num_threads(threads or 1)


def _prepare(config: DictConfig, graph: Graph, progress: JobProgress) -> MainJob:
    import hwmodels
    from qsim.metrics import get_metric
    from qsim.ptq import Calibration, PlanBuilder
    from qsim.ptq.transforms import apply_transforms
    from searches.evaluate import Evaluator, Halves
    from searches.ledger import Ledger
    from searches.main_job import MainJob
    from searches.store import Store

    settings = _settings(config)
    target = hwmodels.load_target(command_line.as_mapping(config.hardware))
    dataset = command_line.open_data(config.data, graph)
    calibration = Calibration(**command_line.as_mapping(config.ptq))
    graph = apply_transforms(calibration.before, graph, dataset.calibration)
    _say_what_was_added(graph)
    menu, groups = _candidates(config.formats, graph)
    store_path = Path(config.store)
    store_path.parent.mkdir(parents=True, exist_ok=True)
    metric = get_metric(config.metric.name)
    evaluator = Evaluator.create(graph, dataset, metric, Store(store_path), config.arithmetic)
    size = f"{len(graph.layers)} layers in {len(groups)} groups, {graph.macs:,} MACs"
    log.info("model %s: %s", graph.name, size)
    log.info("calibrating on %d samples", dataset.calibration_samples)
    builder = PlanBuilder.calibrate(
        graph,
        dataset.calibration,
        calibration,
        seed=config.seed,
        arithmetic=config.arithmetic,
        track=progress.track,
    )
    halves = Halves.split(dataset.samples, config.seed)
    ledger = Ledger(evaluator, builder, target, halves, config.seed, _choices("formats", "ptq"))
    return MainJob(ledger, groups, menu, settings, progress.track)


def _settings(config: DictConfig) -> Settings:
    from searches.main_job import Settings

    solver = command_line.as_mapping(config.search)
    return Settings(
        solver=solver["name"],
        objective=config.objective,
        seed=config.seed,
        measured_plans=config.measured_plans,
        accept_loss=config.accept_loss,
        sensitivity_measure=config.sensitivity.measure,
        sensitivity_samples=config.sensitivity.samples,
        sensitivity_also=tuple(config.sensitivity.also),
        budgets=solver.get("budgets") or {},
        options=solver,
    )


def _candidates(formats: DictConfig, graph: Graph) -> tuple[tuple[Choice, ...], tuple[Candidates, ...]]:
    """The menu, and the groups of layers with what each may take."""
    from searches.candidates import make_candidates, make_choice, make_grid, make_rules

    given: dict[str, Any] = dict(command_line.as_mapping(formats))
    menu = tuple(make_choice(str(label), entry) for label, entry in given["menu"].items())
    menu += make_grid(given.get("grid") or {})
    rules = make_rules(given.get("rules") or [], menu)
    return menu, make_candidates(graph, menu, rules, given["share"], given.get("groups") or [])


def _choices(*groups: str) -> dict[str, str]:
    """What was chosen of some config groups, by name."""
    from hydra.core.hydra_config import HydraConfig

    choices = HydraConfig.get().runtime.choices
    return {group: str(choices[group]) for group in groups}


def _check_float(config: DictConfig, evaluator: Evaluator, seed: int) -> None:
    """The float32 network must be the one that was recorded, before anything is said about a quantized one."""
    value = evaluator.metric.value(evaluator.float_scores)
    log.info("float32 %s: %.4f on %d samples", evaluator.metric.name, value, evaluator.dataset.samples)
    if (
        config.model.kind == "embedded"
        and config.data.kind == "embedded"
        and config.metric.name == "top1"
        and config.data.samples is None
    ):
        from qsim.embedded import RECORD

        if abs(value - RECORD["accuracy"]) > 0.5 / evaluator.dataset.samples:
            raise UserError(
                f"the embedded network reaches {value:.4f} here, {RECORD['accuracy']:.4f} was recorded: "
                "this installation computes something else"
            )


def _say_what_was_added(graph: Graph) -> None:
    """Layers that `ptq.before` put in stay in float32 and are in no cost: a run says so."""
    added = [layer.name for layer in graph.layers if layer.added]
    if added:
        log.warning(
            "ptq.before added %d layers (%s, ...); they stay in float32 and are not priced",
            len(added),
            added[0],
        )


def _write(folder: Path, config: DictConfig, job: MainJob, outcome: Outcome) -> dict[str, str]:
    """results.csv, plans/*, tables, pictures, report; returns {export format: path or why not}."""
    from qsim.exporters.float_onnx import export_float
    from reports.front import save_front
    from reports.html import write_run_page
    from reports.results import load_run, named_objectives

    folder.mkdir(parents=True, exist_ok=True)
    outcome.rows.to_csv(folder / "results.csv", index=False)
    if len(outcome.sensitivities):
        outcome.sensitivities.to_csv(folder / "sensitivities.csv", index=False)
    for plan_id, plan in outcome.plans.items():
        plan.save(folder / "plans" / f"{plan_id}.json")
        outcome.layer_costs[plan_id].to_csv(folder / "plans" / f"{plan_id}.costs.csv", index=False)
    (folder / "search.json").write_text(
        json.dumps(
            {
                "solver": outcome.search.solver,
                "status": outcome.search.status,
                "claim": outcome.search.claim,
                "points": len(outcome.search.selections),
                "seconds": outcome.search.seconds,
                "history": outcome.search.history,
                "details": {
                    key: value for key, value in outcome.search.details.items() if key != "infeasible"
                },
            },
            default=vars,
            indent=1,
        )
        + "\n"
    )
    graph = job.ledger.evaluator.graph
    if config.ptq.before:  # the plans are of this network, not of the file that was read
        export_float(graph, folder / "model.onnx")
    exported = _export(folder, config, graph, outcome)
    run = load_run(folder, graph.name)
    shown = named_objectives(run.table, _shown_costs(job, outcome))
    _, picture = save_front({run.name: run.table}, folder, shown)
    write_run_page(run, picture, shown)
    return exported


def _shown_costs(job: MainJob, outcome: Outcome) -> list[str]:
    """The searched objective first, then what users of this hardware look at."""
    names = [
        outcome.objective,
        *(name for name in job.ledger.target.objectives if name != outcome.objective),
        "weight_bytes",
    ]
    return list(dict.fromkeys(names))[:4]


def _export(folder: Path, config: DictConfig, graph: Graph, outcome: Outcome) -> dict[str, str]:
    """The cheapest accepted plan that each format can hold, and in plain words why it is not the chosen one."""
    return {name: _export_one(folder, graph, outcome, name) for name in config.export.formats}


def _export_one(folder: Path, graph: Graph, outcome: Outcome, name: str) -> str:
    import qsim

    refusals = []
    for plan_id in outcome.accepted:
        try:
            path = qsim.export(
                graph, outcome.plans[plan_id], name, folder / "export" / f"{plan_id}.{name}.onnx"
            )
        except UserError as error:
            refusals.append(str(error))
        else:
            return f"{path} ({'chosen plan' if not refusals else f'not the chosen plan: {refusals[0]}'})"
    return f"not written: {refusals[0]}"


def _present(folder: Path, job: MainJob, outcome: Outcome, exported: dict[str, str], seconds: float) -> None:
    from rich.console import Console

    from reports.families import family_sentences
    from reports.quantities import cost_quantity
    from reports.results import check_table, named_objectives
    from reports.table import rich_table, summary_rows
    from searches.evolution import progress_sentences

    console = Console()
    table = check_table(outcome.rows)
    console.print(rich_table(summary_rows(table), named_objectives(table, _shown_costs(job, outcome))))
    chosen = outcome.rows[outcome.rows["plan_id"] == outcome.chosen].iloc[0]
    console.print(f"chosen: {chosen['label']} (plan {outcome.chosen}); search: {outcome.search.claim}")
    for sentence in (
        *progress_sentences(outcome.search),
        *family_sentences(table, cost_quantity(outcome.objective)),
    ):
        console.print(sentence, highlight=False)
    for name, result in exported.items():
        console.print(f"{name}: {result}")
    for name in ("results.csv", "pareto.png", "pareto.svg", "report.html", "plans"):
        console.print(f"  {folder / name}", highlight=False)
    console.print(f"{len(outcome.plans)} plans of '{job.ledger.evaluator.graph.name}' in {seconds:.1f} s")
