"""One cell: quantize a network by a method in a format, run it on all evaluation samples, keep the scores.

A cell is a small JSON file, written as soon as it is measured and found again by what it depends on: model, data,
formats, options of the method, and the sources of qsim that such a method runs through. Plans that turn out equal
are run once.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import json
import resource
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import qsim
from qsim.data import Dataset, load_npz
from qsim.graph import Graph
from qsim.metrics import METRICS, Metric, Samples
from qsim.plan import BitPlan
from qsim.ptq import Calibration, PlanBuilder
from qsim.ptq.observe import Range, observe
from qsim.ptq.transforms import apply_transforms
from searches.ledger import weight_bytes
from tests.benchmarks.ptq_table.rows import FORMATS, METHODS, NETWORKS, Method

ALWAYS = (
    "casting",
    "formats",
    "emulator",
    "graph",
    "arithmetic",
)  # rooms of qsim that every cell runs through


PART = 5  # batches that are evaluated before they are scored


@dataclass(frozen=True)
class Cell:
    """What was measured: one of these a seed.

    scores: [samples, k] of the metric. agreement: share of answers equal to float32's, None where the metric does not
    classify. quantize_s, evaluate_s: processor time, calibration included. spent_s: processor time of the benchmark,
    in which what cells share is of the first of them alone. peak_mib: resident, of this cell alone (quantization,
    evaluation). failed: why there is no number, the other fields then being empty.
    """

    network: str
    method: str
    format: str
    seed: int
    key: str
    version: str
    plan: str = ""
    graph: str = ""
    scores: list[list[float]] = field(default_factory=list)
    value: float = float("nan")
    agreement: float | None = None
    sqnr_db: float | None = None
    quantize_s: float = 0.0
    evaluate_s: float = 0.0
    spent_s: float = 0.0
    size_kib: float = 0.0
    peak_mib: tuple[float, float] = (0.0, 0.0)
    failed: str = ""


class Bench:
    """One network with its data; what cells have in common (transformed graphs, ranges, plans run) is kept."""

    def __init__(self, zoo: Path, name: str, samples: int | None, cells: Mapping[str, Cell]) -> None:
        self.name, self.network = name, NETWORKS[name]
        folder = zoo / self.network.folder
        self.graph = qsim.load_model(folder / "model.onnx")
        self.layers = {layer.name for layer in self.graph.layers}
        self.data: Dataset = load_npz(folder / "data.npz", self.graph, self.network.preprocessing).head(
            samples
        )
        self.metric: Metric = METRICS[self.network.metric]
        self._answers = TemporaryDirectory()  # of the float32 network, a file a part
        self.float_scores = np.concatenate([self._run_float(part) for part in self._parts()])
        self._graphs: dict[str, tuple[Graph, dict[str, Range], float]] = {}
        self._builders: dict[tuple[str, ...], tuple[PlanBuilder, float]] = {}
        self._run_already = {(cell.graph, cell.plan): cell for cell in cells.values() if cell.network == name}

    def key(self, method: Method, format_name: str, seed: int) -> str:
        """What a cell depends on beside the sources."""
        parts = [
            self.graph.hash,
            self.data.hash,
            FORMATS[format_name],
            method.calibration(self.network, format_name, seed),
            seed,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def measure(self, method_name: str, format_name: str, seed: int) -> Cell:
        """Quantize and evaluate; a method that refuses gives a cell that says why."""
        method = METHODS[method_name]
        key, version = self.key(method, format_name, seed), source_version(method)
        empty = Cell(self.name, method_name, format_name, seed, key, version)
        if self.name in method.without:
            return replace(empty, failed=method.without[self.name])
        reset_peak()
        start = time.process_time()
        try:
            graph, plan, seconds = self._quantize(method, format_name, seed)
        except Exception as error:  # one method's failure must not cost the rest of the table
            return replace(empty, failed=f"{type(error).__name__}: {str(error).splitlines()[0][:160]}")
        peak = peak_mib()
        known = self._run_already.get((graph.hash, plan.id))
        if known is None or known.version != version:
            known = self._evaluate(graph, plan, empty)
            self._run_already[graph.hash, plan.id] = known
        return replace(
            known,
            **{name: getattr(empty, name) for name in ("method", "format", "seed", "key", "version")},
            quantize_s=seconds,
            spent_s=time.process_time() - start,
            size_kib=weight_bytes(graph.layers, specs_of(graph, self.layers, format_name).get) / 1024,
            peak_mib=(peak, known.peak_mib[1]),
        )

    def _quantize(self, method: Method, format_name: str, seed: int) -> tuple[Graph, BitPlan, float]:
        how = Calibration(**method.calibration(self.network, format_name, seed))
        graph, _, shared_s = self._transformed(how)
        scaled, scales_s = self._scaled(how, format_name)
        start = time.process_time()
        builder = replace(scaled, calibration=how, seed=seed, _tuned={}, _finished={})
        plan = builder.build(specs_of(graph, self.layers, format_name))
        return graph, plan, time.process_time() - start + shared_s + scales_s

    def _scaled(self, how: Calibration, format_name: str) -> tuple[PlanBuilder, float]:
        """A builder that has the scales which methods start from, and the seconds that those took."""
        graph, ranges, _ = self._transformed(how)
        key = how.activations, how.weights, str(how.percentile), format_name
        if key not in self._builders:
            start = time.process_time()
            plain = replace(how, steps=(), after=())
            builder = PlanBuilder(graph, ranges, plain, 0, "fast", self.data.calibration)
            builder.build(specs_of(graph, self.layers, format_name))
            self._builders[key] = builder, time.process_time() - start
        return self._builders[key]

    def _transformed(self, how: Calibration) -> tuple[Graph, dict[str, Range], float]:
        """The network after `how.before`, its ranges, and the seconds that both took."""
        known = repr(how.before)
        if known not in self._graphs:
            self._graphs.clear()  # ranges hold samples of every tensor: one network's at a time
            self._builders.clear()
            start = time.process_time()
            graph = (
                apply_transforms(how.before, self.graph, self.data.calibration) if how.before else self.graph
            )
            operands = {name for layer in graph.layers for name in (layer.input, layer.weights)}
            ranges = observe(graph, self.data.calibration, sorted(operands - set(graph.parameters)))
            self._graphs[known] = (graph, ranges, time.process_time() - start)
        return self._graphs[known]

    def _evaluate(self, graph: Graph, plan: BitPlan, cell: Cell) -> Cell:
        reset_peak()
        start = time.process_time()
        scores, agreement, noise = [], [], []
        for part in self._parts():
            samples = self._samples(self._run(graph, plan, part), part)
            scores.append(self.metric.score(samples))
            agreement.append(METRICS["agreement"].score(samples))
            noise.append(METRICS["sqnr"].score(samples))
        table = np.concatenate(scores)
        classifies = self.network.metric != "reconstruction_auc"
        return replace(
            cell,
            plan=plan.id,
            graph=graph.hash,
            scores=table.round(7).tolist(),
            value=self.metric.value(table),
            agreement=float(np.concatenate(agreement).mean()) if classifies else None,
            sqnr_db=METRICS["sqnr"].value(np.concatenate(noise)),
            evaluate_s=time.process_time() - start,
            peak_mib=(0.0, peak_mib()),
        )

    def _parts(self) -> Iterator[slice]:
        """The evaluation samples, so many at a time that memory holds few answers."""
        step = PART * self.network.batch_size
        return (slice(first, first + step) for first in range(0, self.data.samples, step))

    def _run_float(self, part: slice) -> Any:
        answers = self._run(self.graph, None, part)
        np.save(self._answer_file(part), answers)
        return self.metric.score(self._samples(answers, part))

    def _answer_file(self, part: slice) -> Path:
        return Path(self._answers.name) / f"{part.start}.npy"

    def _run(self, graph: Graph, plan: BitPlan | None, part: slice) -> Any:
        inputs = {name: array[part] for name, array in self.data.evaluation.items()}
        return qsim.emulate(graph, plan, inputs, batch_size=self.network.batch_size).output

    def _samples(self, output: Any, part: slice) -> Samples:
        inputs = next(iter(self.data.evaluation.values()))[part]
        labels = None if self.data.labels is None else self.data.labels[part]
        return Samples(output, np.load(self._answer_file(part)), inputs, labels)


def specs_of(graph: Graph, names: Collection[str], format_name: str) -> dict[str, qsim.Spec]:
    """The format on every weight and every activation that the layers `names` multiply, attention products included;
    layers that a transform added (rotations, low-rank branches) stay in float32.
    """
    weights, activations = FORMATS[format_name]
    specs = {}
    for layer in (layer for layer in graph.layers if layer.name in names):
        for name in (layer.weights, layer.input):
            text = weights if name in graph.parameters else activations
            if text is not None:
                specs[name] = qsim.parse(text)
    return specs


@cache
def _digest(folder: Path, deep: bool) -> str:
    files = sorted(folder.rglob("*.py") if deep else folder.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def source_version(method: Method) -> str:
    """A hash of the sources that a method runs through; others may change without a cell becoming stale."""
    root = Path(qsim.__file__).parent
    parts = [_digest(root / room, True) for room in ALWAYS] + [_digest(root / "ptq", False)]
    rooms = {"steps": "steps", "before": "transforms", "after": "reconstruction"}
    parts += [_digest(root / "ptq" / room, True) for key, room in rooms.items() if method.options.get(key)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]


def load_cells(work: Path) -> dict[str, Cell]:
    """{key: cell} of every cell file below `work`."""
    cells = {}
    for path in sorted(work.glob("*/*.json")):
        entry = json.loads(path.read_text())
        cells[entry["key"]] = Cell(**{**entry, "peak_mib": tuple(entry["peak_mib"])})
    return cells


def keep_cell(work: Path, cell: Cell) -> None:
    """Write a cell's file: whole or not at all."""
    path = work / cell.network / f"{cell.key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    half.write_text(json.dumps(asdict(cell)))
    half.rename(path)


def reset_peak() -> None:
    """Start a new peak of resident memory, where Linux lets us; elsewhere it is that of the whole process.

    What an earlier cell freed goes back to the system first, so that a peak is of one cell.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """The peak of resident memory since `reset_peak`, MiB."""
    try:
        lines: Iterator[str] = iter(Path("/proc/self/status").read_text().splitlines())
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
