"""A plan on disk is the plan in memory, and a file that is not a plan is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import qsim
from qsim.arithmetic.mac import Mac
from qsim.errors import PlanError, UserError
from qsim.plan import BitPlan, ChannelSpec, LayerPlan, TensorPlan


def make_plan() -> BitPlan:
    weights = TensorPlan(
        qsim.parse("int4@channel:float32"),
        "weight",
        0,
        np.array([0.1, 0.25], np.float32),
        None,
        np.array([[1, -8], [7, 3]], np.int8),
    )
    activation = TensorPlan(
        qsim.parse("uint8+zp@tensor:float32"),
        "activation",
        1,
        np.float32(0.1) * np.ones((), np.float32),
        np.array(3, np.int64),
    )
    return BitPlan(
        {"w": weights, "x": activation, "y": TensorPlan(qsim.parse("mxfp4"), "activation", -1)},
        {"fc": LayerPlan(Mac(accumulator="int16"), "dyadic")},
        model_name="m",
        model_hash="ab" * 32,
        seed=7,
        tables={"levels": np.array([-1.0, 0.0, 2.0])},
        provenance={"search": "ilp"},
    )


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    plan = make_plan()
    loaded = BitPlan.load(plan.save(tmp_path / "plan.json"))
    assert loaded.id == plan.id
    assert loaded.layers == plan.layers and loaded.provenance == plan.provenance
    for name, tensor in plan.tensors.items():
        other = loaded.tensors[name]
        assert (other.spec, other.role, other.axis) == (tensor.spec, tensor.role, tensor.axis)
        for kind in ("scale", "zero_point", "codes"):
            ours, theirs = getattr(tensor, kind), getattr(other, kind)
            assert (ours is None) == (theirs is None)
            if ours is not None:
                assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
                np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(loaded.tables["levels"], plan.tables["levels"])


def test_id_follows_everything_that_changes_a_result_and_nothing_else() -> None:
    from dataclasses import replace

    plan = make_plan()
    assert replace(plan, provenance={"search": "nsga2"}).id == plan.id
    assert replace(plan, seed=8).id != plan.id
    w = plan.tensors["w"]
    changed = replace(w, codes=np.where(w.codes == 7, 6, w.codes).astype(np.int8))
    assert replace(plan, tensors={**plan.tensors, "w": changed}).id != plan.id
    assert replace(plan, layers={}).id != plan.id


def test_a_tensor_may_mix_specs_over_channels(tmp_path: Path) -> None:
    parts = (
        ChannelSpec((0, 2), qsim.parse("int8@channel:float32")),
        ChannelSpec((1,), qsim.parse("int4@channel:float32")),
    )
    plan = BitPlan({"w": TensorPlan(parts, "weight", 0)})
    assert BitPlan.load(plan.save(tmp_path / "plan.json")).tensors["w"].spec == parts


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d.update(schema="other/1"), "schema"),
        (
            lambda d: d["tensors"]["x"].update(spec="int8@tensr:float32"),
            "tensor 'x'.*tensr|tensor 'x'.*position",
        ),
        (lambda d: d["tensors"]["x"].update(colour="red"), "colour"),
        (lambda d: d["tensors"]["w"].pop("role"), "role"),
        (lambda d: d["layers"]["fc"].update(mac={"acumulator": "int8"}), "acumulator"),
        (lambda d: d["layers"]["fc"].update(requantize="sometimes"), "sometimes"),
        (lambda d: d.pop("model"), "model"),
        (lambda d: d["tensors"]["x"].update(scale="array"), "x.scale"),
    ],
)
def test_what_is_not_a_plan_is_refused_in_one_line(tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    path = make_plan().save(tmp_path / "plan.json")
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(PlanError, match=message) as caught:
        BitPlan.load(path)
    assert "\n" not in str(caught.value) and "plan.json" in str(caught.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"nowhere\.json"):
        BitPlan.load(tmp_path / "nowhere.json")
    (tmp_path / "text.json").write_text("not json")
    with pytest.raises(PlanError, match="not a JSON file"):
        BitPlan.load(tmp_path / "text.json")
    path = make_plan().save(tmp_path / "plan.json")
    path.with_suffix(".safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(PlanError, match="not a safetensors file"):
        BitPlan.load(path)


@pytest.mark.parametrize(
    "fields",
    [{"order": "random"}, {"lanes": 0}, {"accumulator": "int99x"}, {"product": "int8@tensor:float32"}],
)
def test_a_mac_that_cannot_be_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Mac(**fields)  # type: ignore[arg-type]


def test_a_mac_is_canonical() -> None:
    assert Mac(accumulator="int16/nearest_even/saturate") == Mac(accumulator="int16")
    assert Mac.from_dict(Mac(accumulator="float16", lanes=4).to_dict()) == Mac(accumulator="float16", lanes=4)
