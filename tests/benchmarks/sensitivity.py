"""What a scan of sensitivities costs, and which measure ranks plans as they turn out: writes docs/sensitivity.md.

    python -m tests.benchmarks.sensitivity --zoo ../shared/zoo                 # everything, hours of one core
    python -m tests.benchmarks.sensitivity --zoo ../shared/zoo --networks dscnn --methods mse --no-write

Measures see one set of samples, the truth is measured on others. Results are kept in --store and not measured twice.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qsim
from qsim import command_line
from qsim.data import Preprocessing, load_npz
from qsim.emulator.reuse import record
from qsim.metrics import get_metric
from qsim.ptq import Calibration, PlanBuilder
from searches.candidates import Candidates, Choice, make_candidates, make_choice
from searches.evaluate import Evaluator
from searches.sensitivity import (
    MEASURES,
    Scan,
    Trial,
    count_pair_runs,
    joined_groups,
    measure_pairs,
    measure_sensitivities,
)
from searches.sensitivity.measure import score_of
from searches.store import Store
from tests.benchmarks.sensitivity_report import mean_correlations, write_report

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("mse", "gptq")  # configs/ptq/<name>.yaml
MEASURED_PAIRS = ("dscnn", "mse")  # 2025 runs of the network
Parts = Sequence[tuple[Candidates, Choice]]


@dataclass(frozen=True)
class Network:
    """A network of the zoo; samples: that measures see, of the truth, of the timed scan; menu: entries that are
    scanned for correlations (empty: all of configs/formats/standard.yaml).
    """

    folder: str
    preprocessing: Preprocessing
    metric: str
    samples: tuple[int, int, int]
    menu: tuple[str, ...] = ()
    mixed_plans: int = 40
    without: tuple[str, ...] = ()


LM_MENU = ("w8a8", "w4a8", "w4a4", "w3a3", "e4m3", "mxfp4")
NETWORKS = {
    "resnet8": Network("resnet8_cifar10", Preprocessing(axes=(0, 3, 1, 2)), "top1", (100, 500, 50)),
    "dscnn": Network("dscnn_kws", Preprocessing(reshape=(-1, 1, 49, 10)), "top1", (100, 500, 50)),
    "vww": Network("mobilenetv1_vww", Preprocessing(axes=(0, 3, 1, 2), std=255.0), "top1", (50, 200, 10)),
    "lm": Network("stories260k_lm", Preprocessing(), "perplexity", (3, 8, 1), LM_MENU, 20, ("taylor2",)),
}


@dataclass(frozen=True, eq=False)
class Bench:
    """One network under one rounding method, everything through the store."""

    name: str
    method: str
    zoo: Path
    store: Store
    _made: dict[str, qsim.BitPlan] = field(default_factory=dict)

    @property
    def network(self) -> Network:
        return NETWORKS[self.name]

    @cached_property
    def evaluator(self) -> Evaluator:
        folder = self.zoo / self.network.folder
        graph = qsim.load_model(folder / "model.onnx")
        data = load_npz(folder / "data.npz", graph, self.network.preprocessing)
        return Evaluator.create(
            graph, data.head(sum(self.network.samples[:2])), get_metric(self.network.metric)
        )

    @cached_property
    def menu(self) -> tuple[Choice, ...]:
        config = yaml_config("formats/standard")["menu"]
        return tuple(make_choice(label, entry) for label, entry in config.items())

    def groups(self, whole_menu: bool = False) -> tuple[Candidates, ...]:
        chosen = [c for c in self.menu if whole_menu or c.label in (self.network.menu or [c.label])]
        return make_candidates(self.evaluator.graph, chosen)

    @cached_property
    def builder(self) -> PlanBuilder:
        """As configured, but each layer tuned on the float32 network's inputs, cast: of a plan with one group that is
        the same, and many plans then share the results of a layer.
        """
        config = {**yaml_config(f"ptq/{self.method}"), "sequential": False}
        data = self.evaluator.dataset.calibration
        return PlanBuilder.calibrate(self.evaluator.graph, data, Calibration(**config))

    def plan(self, parts: Parts) -> qsim.BitPlan:
        specs = {name: spec for group, choice in parts for name, spec in group.tensors(choice).items()}
        key = repr(sorted((name, str(spec)) for name, spec in specs.items()))
        if key not in self._made:
            self._made[key] = self.builder.build(specs)
        return self._made[key]

    def tune(self) -> float:
        """Tunes every layer in every format in one pass a format; returns processor seconds."""
        start = time.process_time()
        for index in range(len(self.groups()[0].choices)):
            self.plan([(group, group.choices[index]) for group in self.groups()])
        return time.process_time() - start

    def kept(self, what: str, function: Callable[[], Any]) -> Any:
        """An answer from the store, or measured."""
        network = repr((self.network.samples, self.network.menu))
        key = {"kind": "sensitivity benchmark", "what": what, "network": self.name, "facts": network}
        key |= {"method": self.method, "model": self.evaluator.graph.hash, "version": qsim.__version__}
        start = time.process_time()
        answer = self.store.measure(key, function)
        print(f"{self.name} {self.method} {what}: {time.process_time() - start:.0f} s", flush=True)
        return answer

    @property
    def seen(self) -> np.ndarray:
        """Indices of the samples that measures see."""
        return np.arange(self.network.samples[0])

    @property
    def unseen(self) -> np.ndarray:
        """Indices of the samples that the truth is measured on."""
        return np.arange(self.network.samples[0], sum(self.network.samples[:2]))

    def scores(self, measure: str, parts: Any = "both") -> dict[str, Any]:
        """One scan by one measure: flat values and the processor seconds of the scan (plans are ready)."""

        def run() -> dict[str, Any]:
            self.tune()
            start = time.process_time()
            arguments = (self.groups(), self.plan, self.evaluator, self.seen, measure)
            values = measure_sensitivities(*arguments, parts=parts)
            seconds = time.process_time() - start
            return {"values": np.concatenate(values).tolist(), "seconds": seconds}

        return self.kept(f"{measure} {parts}", run)

    def truth(self) -> dict[str, list[float]]:
        """Measured divergence and loss of every choice alone, on the other samples."""

        def run() -> dict[str, list[float]]:
            self.tune()
            scan = Scan(self.groups(), self.plan, self.evaluator, self.unseen)
            score = {name: score_of(scan, name) for name in ("kl", "loss")}
            found: dict[str, list[float]] = {name: [] for name in score}
            for trial in scan.trials():
                for name, function in score.items():
                    found[name].append(function(trial).value)
                trial.forget()
            return found

        return self.kept("truth", run)

    def mixed(self) -> dict[str, Any]:
        """Random plans: the choice of each group, the measured divergence and loss on the other samples."""

        def run() -> dict[str, Any]:
            self.tune()
            groups = self.groups()
            scan = Scan(groups, self.plan, self.evaluator, self.unseen)
            takes = random_choices(len(groups), len(groups[0].choices), self.network.mixed_plans)
            found: dict[str, Any] = {"takes": takes.tolist(), "kl": [], "loss": []}
            for row in takes:
                trial = Trial(scan, tuple((g, int(c)) for g, c in enumerate(row)))
                for name in ("kl", "loss"):
                    found[name].append(score_of(scan, name)(trial).value)
                trial.forget()
            return found

        return self.kept("mixed", run)

    def pairs(self) -> list[Any]:
        """Pairwise terms of all groups from one scan: [first, second, values]."""

        def run() -> list[Any]:
            self.tune()
            found = measure_pairs(self.groups(), self.plan, self.evaluator, self.seen)
            return [[pair.first, pair.second, pair.values.tolist()] for pair in found]

        return self.kept("pairs", run)

    def measured_pairs(self) -> list[Any]:
        """Pairwise terms of neighbouring groups, each measured (CLADO): [first, second, values]."""

        def run() -> list[Any]:
            self.tune()
            groups = self.groups()
            pairs = joined_groups(self.evaluator.graph, groups)
            print(f"{count_pair_runs(groups, pairs)} runs of the network for {len(pairs)} pairs", flush=True)
            arguments = (groups, self.plan, self.evaluator, self.seen, "kl", pairs)
            return [[pair.first, pair.second, pair.values.tolist()] for pair in measure_pairs(*arguments)]

        return self.kept("measured pairs", run)

    def reuse(self) -> dict[str, float]:
        """A scan of all groups and the standard menu with and without a recording: MACs, processor seconds, memory."""

        def run() -> dict[str, float]:
            groups, graph = self.groups(whole_menu=True), self.evaluator.graph
            inputs = {
                name: array[: self.network.samples[2]]
                for name, array in self.evaluator.dataset.evaluation.items()
            }
            plans = [self.plan([(group, choice)]) for group in groups for choice in group.choices]
            qsim.emulate(graph, plans[0], inputs)  # compiled code, warm caches
            seconds = dict.fromkeys(("whole", "reused"), 0.0)
            start = time.process_time()
            recording = record(graph, inputs, batch_size=25)
            seconds["reused"] += time.process_time() - start
            for plan in plans:
                start = time.process_time()
                whole = qsim.emulate(graph, plan, inputs, batch_size=25).output
                seconds["whole"] += time.process_time() - start
                start = time.process_time()
                reused = qsim.emulate(graph, plan, inputs, reuse=recording).output
                seconds["reused"] += time.process_time() - start
                np.testing.assert_array_equal(whole, reused)
            macs = graph.macs + sum(recording.node_macs(plan) for plan in plans)
            scan = Scan(groups, self.plan, self.evaluator, np.arange(self.network.samples[2]))
            start = time.process_time()
            score = score_of(scan, "fisher_output")
            for trial in scan.trials():
                score(trial)
            return {
                "plans": len(plans),
                "groups": len(groups),
                "samples": self.network.samples[2],
                "macs_ratio": macs / (len(plans) * graph.macs),
                "seconds_whole": seconds["whole"],
                "seconds_reused": seconds["reused"],
                "seconds_fisher_output": time.process_time() - start,
                "megabytes": recording.bytes / 1e6,
            }

        return self.kept("reuse", run)


def yaml_config(path: str) -> Any:
    from omegaconf import OmegaConf

    return command_line.as_mapping(OmegaConf.load(ROOT / "configs" / f"{path}.yaml"))


def random_choices(groups: int, choices: int, plans: int, seed: int = 0) -> np.ndarray:
    """Random mixed plans [plans, groups]; each draws from its own half of the menu or more, so that losses spread."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(plans):
        allowed = random.permutation(choices)[: random.integers(2, choices + 1)]
        rows.append(random.choice(allowed, groups))
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--zoo", type=Path, default=ROOT.parent / "shared" / "zoo", help="folder of the networks"
    )
    parser.add_argument(
        "--networks", default="resnet8,dscnn,lm", help=f"correlations: of {', '.join(NETWORKS)}"
    )
    parser.add_argument("--methods", default="mse,gptq", help=f"rounding: of {', '.join(METHODS)}")
    parser.add_argument("--reuse", default="resnet8,dscnn,vww,lm", help="networks whose scans are timed")
    parser.add_argument(
        "--store", type=Path, default=ROOT / "runs" / "sensitivity.sqlite", help="kept results"
    )
    parser.add_argument("--no-write", action="store_true", help="leave docs/sensitivity.md as it is")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.store.parent.mkdir(parents=True, exist_ok=True)
    store = Store(arguments.store)
    timed = [Bench(name, "mse", arguments.zoo, store) for name in filter(None, arguments.reuse.split(","))]
    reuse = {bench.name: bench.reuse() for bench in timed}
    results = {}
    for name in filter(None, arguments.networks.split(",")):
        for method in arguments.methods.split(","):
            bench = Bench(name, method, arguments.zoo, store)
            left_out = {*bench.network.without, *(["taylor2"] if method != METHODS[0] else [])}  # the dearest
            left_out.add("distance")  # which is kl on all of these
            measures = [measure for measure in MEASURES if measure not in left_out]
            results[name, method] = {
                "truth": bench.truth(),
                "scores": {measure: bench.scores(measure) for measure in measures},
                "mixed": bench.mixed(),
                "pairs": bench.pairs(),
                "measured_pairs": bench.measured_pairs() if (name, method) == MEASURED_PAIRS else None,
                "choices": len(bench.groups()[0].choices),
                "samples": bench.network.samples[:2],
            }
    text = write_report(reuse, results, qsim.__version__)
    if arguments.no_write:
        print(text, mean_correlations(results).round(2).to_string(), sep="\n")
    else:
        (ROOT / "docs" / "sensitivity.md").write_text(text)


if __name__ == "__main__":
    main()
