"""Who decides together, and what a menu entry gives to a layer."""

from __future__ import annotations

from pathlib import Path

import pytest

import qsim
from qsim.errors import UserError
from searches.candidates import make_candidates, make_choice
from tests.searches.jobs import MENU, menu_of, parts_of, small_job
from tests.searches.sensitivity_networks import attention

FULL = {
    "weights": "int4@channel:float32",
    "activations": "uint8+zp@tensor:float32",
    "output": "int8@tensor:float32",
    "accumulator": "int16/wrap",
}


def test_an_output_and_an_accumulator_reach_plan_and_costs(tmp_path: Path) -> None:
    ledger, groups = small_job(
        tmp_path, menu={"full": FULL, "plain": {k: FULL[k] for k in ("weights", "activations")}}
    )
    full, plain = (tuple([option] * len(groups)) for option in (0, 1))
    plan = ledger.plan(parts_of(groups, full))
    assert {unit.mac.accumulator for unit in plan.layers.values()} == {"int16/wrap"}
    written = {name for group in groups for name in group.outputs}
    assert written and all(str(plan.tensors[name].specs[0]) == FULL["output"] for name in written)
    multiplied = {layer.input for layer in ledger.evaluator.graph.layers}
    assert not written & multiplied
    assert qsim.BitPlan.load(plan.save(tmp_path / "plan.json")).id == plan.id
    narrow, wide = (ledger.costs(parts_of(groups, choices))["lut"].sum() for choices in (full, plain))
    assert narrow != wide
    assert ledger.evaluator.measure(plan).scores.shape == (40, 1)


def test_a_scaled_accumulator_and_an_unknown_field_are_refused() -> None:
    with pytest.raises(UserError, match="accumulator int8@tensor:float32 has a scale"):
        make_choice("w4", FULL | {"accumulator": "int8@tensor:float32"})
    with pytest.raises(UserError, match=r"menu\.w4 has 'outputs'; an entry has weights, activations, output"):
        make_choice("w4", {"outputs": "int8"})


def test_groups_by_name_and_from_the_graph(tmp_path: Path) -> None:
    graph = attention(tmp_path)
    names = [{layer.name for layer in group.layers} for group in make_candidates(graph, menu_of())]
    assert {"q", "k", "v"} in names  # they read one tensor
    layers = [layer.name for layer in graph.layers]
    together = make_candidates(graph, menu_of(), together=[[layers[0], layers[-1]]])
    assert len(together) == len(names) - 1
    assert any({layers[0], layers[-1]} <= {layer.name for layer in group.layers} for group in together)
    assert len(make_candidates(graph, menu_of(), together=[["*"]])) == 1


@pytest.mark.parametrize(
    "together, message",
    [
        ([["conv_nowhere"]], "formats.groups: pattern 'conv_nowhere' matches no layer"),
        (["q"], "formats.groups: 'q' must be a list of layer patterns"),
    ],
)
def test_a_group_that_names_nothing_is_one_line(tmp_path: Path, together: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_candidates(attention(tmp_path), menu_of(MENU), together=together)
