"""The networks of ../shared/zoo as search problems: groups, menu, rounding, and every plan measured once.

What was measured is kept in a store under what it depends on (network, data, rounding, specs), so that a benchmark
that was stopped goes on where it was, and plans are shared by all methods and costs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import qsim
from hwmodels import Target
from qsim.data import Dataset, Preprocessing, load_npz
from qsim.metrics import get_metric
from qsim.ptq import Calibration, PlanBuilder
from searches.candidates import Candidates, Choice, make_candidates, make_choice
from searches.corrected import Choices, Measured
from searches.evaluate import Evaluator, Halves, Measurement, decode_measurement
from searches.ledger import Ledger
from searches.sensitivity import measure_sensitivities
from searches.store import Store

SHARED = Path(os.environ.get("QSIM_SHARED", Path(__file__).resolve().parents[3] / "shared"))
INT, ACT = "int{}@channel:float32", "uint{}+zp@tensor:float32"
SHIFT = ("int{}@channel:e8m0/ceil", "int{}@tensor:e8m0/ceil")
INTEGERS = {f"w{w}a{a}": (INT.format(w), ACT.format(a)) for w, a in (
    (8, 8), (6, 8), (5, 8), (4, 8), (3, 8), (2, 8), (6, 6), (4, 6), (3, 6), (5, 5), (4, 4)
)}  # fmt: skip
SHIFTS = {
    f"shift{w}a{a}": (SHIFT[0].format(w), SHIFT[1].format(a)) for w, a in ((8, 8), (6, 6), (4, 6), (4, 4))
}
FLOATS = {e: (f"{e}@channel:float32", f"{e}@tensor:float32") for e in ("e4m3fn", "e3m2fn", "e2m1fn")}
BLOCKS = {name: (name, name) for name in ("mxint8", "mxfp8_e4m3", "mxfp6_e2m3", "mxfp4")}


@dataclass(frozen=True)
class Network:
    """A folder of the zoo, how its data become inputs, its metric, and the losses that a plan may have."""

    folder: str
    preprocessing: Preprocessing
    metric: str
    menu: Mapping[str, tuple[str, str]]
    losses: tuple[float, ...]  # of the metric: fractions of answers; perplexity: times float32's
    samples: int | None = None  # of the evaluation data; None: all


POINTS = (0.005, 0.01, 0.02, 0.04, 0.08)
FULL = INTEGERS | SHIFTS | FLOATS
FEWER = {label: FULL[label] for label in FULL if label not in ("w5a8", "w3a6", "w5a5", "e4m3fn")}
IMAGES = Preprocessing(axes=(0, 3, 1, 2))
PIXELS = Preprocessing(axes=(0, 3, 1, 2), scale=1 / 255)
KEYWORDS = Preprocessing(reshape=(-1, 1, 49, 10))
LANGUAGE = {label: INTEGERS[label] for label in ("w8a8", "w6a8", "w4a8", "w3a8", "w6a6")} | FLOATS | BLOCKS
NETWORKS = {
    "resnet8": Network("resnet8_cifar10", IMAGES, "top1", FEWER, POINTS),
    "dscnn": Network("dscnn_kws", KEYWORDS, "top1", FULL, POINTS),
    "vww": Network("mobilenetv1_vww", PIXELS, "top1", FEWER, POINTS),
    "lm": Network(
        "stories260k_lm", Preprocessing(), "perplexity", LANGUAGE, (0.01, 0.02, 0.05, 0.1, 0.25), 32
    ),
}
# Layers keep the result of their own two specs ("sequential: false"), so that a plan costs what it measures.
ROUNDING = Calibration(
    activations="output", steps=["gptq", "coordinate_descent", "bias_correction"], sequential=False
)


@dataclass(eq=False)
class Bench:
    """One network ready to be searched.

    choose, report: evaluators of the two halves of the data; a search sees the first, the second is for what it found.
    """

    name: str
    network: Network
    choose: Evaluator
    report: Evaluator
    builder: PlanBuilder
    groups: tuple[Candidates, ...]
    store: Store
    rounding: Calibration
    _seen: dict[tuple[Choices, bool], Measurement] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        name: str,
        zoo: Path,
        store: Path,
        rounding: Calibration = ROUNDING,
        menu: Mapping[str, tuple[str, str]] | None = None,
        seed: int = 0,
    ) -> Bench:
        network = NETWORKS[name] if menu is None else replace(NETWORKS[name], menu=menu)
        folder = zoo / network.folder
        graph = qsim.load_model(folder / "model.onnx")
        data = load_npz(folder / "data.npz", graph, network.preprocessing).head(network.samples)
        halves = Halves.split(data.samples, seed)
        metric = get_metric(network.metric)
        choose, report = (
            Evaluator.create(graph, _part(data, half), metric) for half in (halves.choose, halves.report)
        )
        builder = PlanBuilder.calibrate(graph, data.calibration, rounding, seed=seed)
        choices = tuple(
            make_choice(label, dict(zip(("weights", "activations"), pair)))
            for label, pair in network.menu.items()
        )
        return cls(
            name, network, choose, report, builder, make_candidates(graph, choices), Store(store), rounding
        )

    def limit(self, loss: float) -> float:
        """The largest loss of the metric (something to minimise) on the choosing half that counts as reached."""
        exact = self._loss(self.choose.float_scores)
        return exact * (1 + loss) if self.network.metric == "perplexity" else exact + loss + 1e-9

    def parts(self, choices: Choices) -> list[tuple[Candidates, Choice]]:
        return [(group, group.choices[i]) for group, i in zip(self.groups, choices, strict=True)]

    def ledger(self, target: Target) -> Ledger:
        samples = self.choose.dataset.samples
        return Ledger(self.choose, self.builder, target, Halves.split(samples, 0))

    def plan(self, parts: Sequence[tuple[Candidates, Choice]]) -> qsim.BitPlan:
        specs = {name: spec for group, choice in parts for name, spec in group.tensors(choice).items()}
        return self.builder.build(specs)

    def measure(self, choices: Choices) -> Measured:
        """What a search may know of a plan: the choosing half."""
        found = self.measurement(choices, self.choose)
        return Measured(self._loss(found.scores), float(found.distance.mean()))

    def measurement(self, choices: Choices, half: Evaluator) -> Measurement:
        """Scores of a whole plan on one half of the data."""
        key = choices, half is self.choose
        if key not in self._seen:
            labels = [choice.label for _, choice in self.parts(choices)]
            question = self._facts(half) | {
                "kind": "plan",
                "formats": [list(self.network.menu[label]) for label in labels],
            }
            answer = self.store.measure(question, lambda: half.run(self.plan(self.parts(choices))))
            self._seen[key] = decode_measurement(answer)
        return self._seen[key]

    def sensitivities(self, measure: str, samples: int = 200) -> list[np.ndarray]:
        """One group at a time, from the store or measured on the first `samples` of the choosing half."""
        chosen = np.arange(min(samples, self.choose.dataset.samples))

        def run() -> list[list[float]]:
            found = measure_sensitivities(self.groups, self.plan, self.choose, chosen, measure)
            return [values.tolist() for values in found]

        question = self._facts(self.choose) | {
            "kind": "sensitivities",
            "measure": measure,
            "samples": len(chosen),
            "menu": {label: list(pair) for label, pair in self.network.menu.items()},
        }
        return [np.array(values) for values in self.store.measure(question, run)]

    def _loss(self, scores: np.ndarray) -> float:
        value = self.choose.metric.value(scores)
        return -value if self.choose.metric.higher_is_better else value

    def _facts(self, half: Evaluator) -> dict[str, Any]:
        return {
            "network": self.name,
            "data": half.dataset.hash,
            "rounding": {key: str(value) for key, value in vars(self.rounding).items()},
            "seed": self.builder.seed,
            "qsim_version": qsim.__version__,
        }


def _part(data: Dataset, samples: np.ndarray) -> Dataset:
    """Some of the evaluation samples."""
    labels = None if data.labels is None else data.labels[samples]
    evaluation = {name: array[samples] for name, array in data.evaluation.items()}
    digest = hashlib.sha256(f"{data.hash}{samples.tolist()}".encode()).hexdigest()
    return replace(data, evaluation=evaluation, labels=labels, hash=digest)


def uniform_choices(bench: Bench) -> Iterable[Choices]:
    """The same entry of the menu in all groups."""
    return (tuple([option] * len(bench.groups)) for option in range(len(bench.network.menu)))
