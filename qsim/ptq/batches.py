"""Calibration data in batches: how many samples at a time, and the values of a tensor over all batches.

Values stay in memory while there is room and go to a temporary file beyond.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch

if TYPE_CHECKING:
    from qsim.graph import Graph

LARGEST_BATCH = 25
BATCH_BYTES = 64 << 20


def batch_samples(graph: Graph, held: Collection[str] = ()) -> int:
    """Samples to compute at a time: as many as the graph fixes, else few enough for 64 MiB.

    That is the size of the `held` tensors together, and of eight tensors as large as the largest.
    """
    fixed = graph.tensors[graph.inputs[0]].shape[0]
    if isinstance(fixed, int):
        return fixed
    activations = {name: math.prod(shape) for name, shape in graph.sample_shapes.items()}
    largest = max((size for name, size in activations.items() if name not in graph.parameters), default=1)
    values = max(8 * largest, sum(activations.get(name, 0) for name in held), 1)
    return max(1, min(LARGEST_BATCH, BATCH_BYTES // (4 * values)))


@dataclass
class Room:
    """Bytes of activations that may still be kept in memory."""

    bytes_left: int


@dataclass(frozen=True)
class _Filed:
    """Where one tensor lies in a file."""

    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class Batches:
    """A list of tensors, one a batch, each in memory where `room` has bytes left and else in a file of its own.

    What is read from the file is a copy that the reader holds; `close` gives room and file back.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._parts: list[torch.Tensor | _Filed] = []
        self._file: BinaryIO | None = None
        self._bytes_held = 0

    def append(self, value: torch.Tensor) -> None:
        """Add the value of the next batch."""
        if value.nbytes <= self._room.bytes_left:
            self._room.bytes_left -= value.nbytes
            self._bytes_held += value.nbytes
            self._parts.append(value)
            return
        if self._file is None:
            self._file = TemporaryFile()  # noqa: SIM115  (closed by close)
        offset = self._file.seek(0, 2)
        self._file.write(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        self._parts.append(_Filed(offset, tuple(value.shape), value.dtype))

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, batch: int) -> torch.Tensor:
        part = self._parts[batch]
        if isinstance(part, torch.Tensor):
            return part
        assert self._file is not None
        count = int(np.prod(part.shape, dtype=np.int64)) * part.dtype.itemsize
        self._file.seek(part.offset)
        data = torch.from_numpy(np.fromfile(self._file, np.uint8, count))
        return data.view(part.dtype).reshape(part.shape)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[batch] for batch in range(len(self)))

    def close(self) -> None:
        """Drop all values."""
        self._room.bytes_left += self._bytes_held
        self._bytes_held = 0
        self._parts.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
