"""Activations beyond a budget of memory go to a file: the same plan, whatever the budget."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import qsim
import qsim.ptq.walk
from qsim.ptq import Calibration, PlanBuilder
from qsim.ptq.batches import Batches, Room
from tests.emulator.networks import inputs, small_cnn, uniform_specs


@pytest.mark.parametrize("budget", [0, 100, 10**6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.bfloat16])
def test_what_is_kept_comes_back(budget: int, dtype: torch.dtype) -> None:
    room = Room(budget)
    values = [torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1).to(dtype) + 1 for _ in range(5)]
    values += [torch.tensor(3).to(dtype), torch.zeros(0, 2, dtype=dtype)]
    batches = Batches(room)
    for value in values:
        batches.append(value)
    assert room.bytes_left >= 0
    for kept, value in zip(batches, values, strict=True):
        assert kept.dtype == value.dtype and kept.shape == value.shape
        assert torch.equal(kept, value)
    batches.close()
    assert room.bytes_left == budget


def test_a_small_budget_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = qsim.load_model(small_cnn(tmp_path))
    specs = uniform_specs(graph, "int3@channel:float32", "uint4+zp@tensor:float32")
    filed: list[int] = []
    original = qsim.ptq.walk.walk

    def build(memory_bytes: int) -> qsim.BitPlan:
        def limited(*arguments, **options):  # type: ignore[no-untyped-def]
            return original(*arguments, **options, memory_bytes=memory_bytes)

        monkeypatch.setattr("qsim.ptq.pipeline.walk", limited)
        how = Calibration(steps=["gptq", "bias_correction"])
        return PlanBuilder.calibrate(graph, {"x": inputs(60)}, how).build(specs)

    append = Batches.append

    def counted(self: Batches, value: torch.Tensor) -> None:
        append(self, value)
        filed.append(self._file is not None)

    monkeypatch.setattr(Batches, "append", counted)
    ids = [build(memory_bytes).id for memory_bytes in (0, 20_000, 1 << 30)]
    assert ids[0] == ids[1] == ids[2]
    assert 0 < sum(filed) < len(filed)
