"""Peak memory: what is alive at each node of the schedule."""

from __future__ import annotations

from math import prod
from pathlib import Path

import qsim
from searches.schedule import live_cuts, peak_bytes
from tests.emulator.networks import small_cnn
from tests.searches.jobs import parts_of, random_choices, small_job


def test_a_residual_stays_alive_until_it_is_added(tmp_path: Path) -> None:
    graph = qsim.load_model(small_cnn(tmp_path))
    add = next(node for node in graph.nodes if node.op == "Add")
    cuts = live_cuts(graph)
    size = prod(graph.sample_shapes[str(add.inputs[0])][1:])
    assert any(list(cut.values()).count(size) == 3 for cut in cuts)  # two operands and their sum
    assert not any(first.items() < second.items() for first in cuts for second in cuts)


def test_the_peak_is_that_of_a_run_that_frees_tensors(tmp_path: Path) -> None:
    """Against a direct count: after each node, everything that somebody still reads, activations in place."""
    graph = qsim.load_model(small_cnn(tmp_path))
    sizes = {name: shape for name, shape in graph.sample_shapes.items() if name not in graph.parameters}
    largest = 0
    for index, node in enumerate(graph.nodes):
        later = {name for following in graph.nodes[index + 1 :] for name in following.inputs} | set(
            graph.outputs
        )
        produced = {name for before in graph.nodes[:index] for name in before.outputs} | set(graph.inputs)
        held = (produced & (later | set(node.inputs))) | set(node.outputs)
        if node.op == "Relu":
            held -= set(node.inputs)
        count = sum(prod(sizes[name][1:]) for name in held if name in sizes)
        largest = max(largest, 4 * count)
    assert peak_bytes(live_cuts(graph), lambda name: 32.0) == largest


def test_narrower_formats_need_less(tmp_path: Path) -> None:
    ledger, groups = small_job(tmp_path)
    peaks = [
        ledger.record(parts_of(groups, (option,) * len(groups)), "test")["peak_sram_bytes"]
        for option in (0, 2)
    ]
    assert peaks[1] < peaks[0] < ledger.rows[0]["peak_sram_bytes"]
    assert ledger.record(parts_of(groups, random_choices(groups, 1)), "test")["peak_sram_bytes"] > 0
