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

if TYPE_CHECKING:
    from qsim.graph import Graph

Array = NDArray[Any]
SAMPLE_VALUES = 1 << 18
BATCH = 25
EXAMPLES = 16


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
    first = graph.tensors[graph.inputs[0]].shape[0]
    step = first if isinstance(first, int) else BATCH
    batches = -(-samples // step)
    parts: dict[str, list[Array]] = {name: [] for name in names}
    examples: dict[str, Array] = {}
    extremes = {name: [np.inf, -np.inf] for name in names}
    rng = np.random.default_rng(seed)
    for start in range(0, samples, step):
        batch = {name: torch.from_numpy(array[start : start + step]) for name, array in calibration.items()}
        values = run_graph(graph, batch, keep=set(names))
        for name in names:
            examples.setdefault(name, values[name][:EXAMPLES].numpy())
            flat = values[name].numpy().reshape(-1)
            if not np.isfinite(flat).all():
                raise UserError(
                    f"tensor '{name}' is not finite on the calibration data: "
                    "check the model's input range (data.scale, data.mean, data.std)"
                )
            extremes[name][0] = min(extremes[name][0], float(flat.min(initial=np.inf)))
            extremes[name][1] = max(extremes[name][1], float(flat.max(initial=-np.inf)))
            share = min(flat.size, SAMPLE_VALUES // batches)
            parts[name].append(flat if share == flat.size else flat[rng.integers(0, flat.size, share)])
    return {
        name: Range(extremes[name][0], extremes[name][1], np.concatenate(parts[name]), examples[name])
        for name in names
    }
