"""Watch the float32 network on calibration data: the range of every tensor that will be quantized.

Batches stream through, so memory holds one batch and a bounded sample of each tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qsim.emulator.execute import run_graph
from qsim.errors import UserError
from qsim.ptq.batches import batch_samples

if TYPE_CHECKING:
    from qsim.graph import Graph

Array = NDArray[Any]
SAMPLE_VALUES = 1 << 18
EXAMPLES = 16
EXAMPLE_VALUES = 1 << 21  # of one tensor, so that attention maps do not fill the memory


@dataclass(frozen=True, eq=False)
class Range:
    """What calibration saw of one tensor: its exact extremes, a seeded sample of its values (float32), and the
    first few samples whole.
    """

    minimum: float
    maximum: float
    sample: Array
    examples: Array = field(default_factory=lambda: np.zeros(0, np.float32))


def observe(
    graph: Graph, calibration: Mapping[str, Array], names: Collection[str], *, seed: int = 0
) -> dict[str, Range]:
    """Ranges of the tensors `names` over all calibration samples; UserError where a tensor is not finite."""
    samples = len(next(iter(calibration.values())))
    step = batch_samples(graph, names)
    batches = -(-samples // step)
    share = SAMPLE_VALUES // max(1, batches)
    seen: dict[str, _Seen] = {}
    rng = np.random.default_rng(seed)
    for start in range(0, samples, step):
        batch = {name: torch.from_numpy(array[start : start + step]) for name, array in calibration.items()}
        values = run_graph(graph, batch, keep=set(names))
        for name in names:
            value = values[name].numpy()
            if not np.isfinite(value).all():
                raise UserError(
                    f"tensor '{name}' is not finite on the calibration data: "
                    "check the model's input range (data.scale, data.mean, data.std)"
                )
            if name not in seen:
                seen[name] = _Seen.of(value, min(share, value.size) * batches)
            seen[name].add(value, share, rng)
    return {name: seen[name].range() for name in names}


@dataclass
class _Seen:
    """What is kept of a tensor while batches pass; room for all of it is taken at the first, so that
    the memory of batches can be given back.
    """

    sample: Array
    examples: Array
    sampled: int = 0
    exampled: int = 0
    minimum: float = np.inf
    maximum: float = -np.inf

    @classmethod
    def of(cls, first: Array, sampled: int) -> _Seen:
        whole = max(1, EXAMPLE_VALUES // max(1, first[:1].size))
        room = (min(EXAMPLES, whole), *first.shape[1:])
        return cls(np.empty(sampled, np.float32), np.empty(room, np.float32))

    def add(self, value: Array, share: int, rng: np.random.Generator) -> None:
        flat = value.reshape(-1)
        self.minimum = min(self.minimum, float(flat.min(initial=np.inf)))
        self.maximum = max(self.maximum, float(flat.max(initial=-np.inf)))
        taken = flat if flat.size <= share else flat[rng.integers(0, flat.size, share)]
        taken = taken[: len(self.sample) - self.sampled]
        self.sample[self.sampled : self.sampled + taken.size] = taken
        self.sampled += taken.size
        if self.exampled < len(self.examples) and value.shape[1:] == self.examples.shape[1:]:
            fresh = value[: len(self.examples) - self.exampled]
            self.examples[self.exampled : self.exampled + len(fresh)] = fresh
            self.exampled += len(fresh)

    def range(self) -> Range:
        return Range(self.minimum, self.maximum, self.sample[: self.sampled], self.examples[: self.exampled])
