"""Calibration and evaluation data: an .npz in, model-ready arrays out.

A file holds `x_calib`, `x_eval` and `y_eval` (`y_calib` optional); a model with several inputs names them
`x_eval.<input>`. Integers become inputs as ((x - zero_point) * scale - mean) / std, after `reshape` and
`axes`; integer inputs of the model (token ids) are left alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qsim.errors import UserError

if TYPE_CHECKING:
    from qsim.graph import Graph

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Model-ready arrays, one row a sample.

    calibration, evaluation: {input name: array [samples, ...]} in the dtypes of the model's inputs.
    labels: what the metric compares with (classes [N], next tokens [N, T], ...), or None.
    """

    name: str
    calibration: Mapping[str, Array]
    evaluation: Mapping[str, Array]
    labels: Array | None
    hash: str

    @property
    def samples(self) -> int:
        return len(next(iter(self.evaluation.values())))

    @property
    def calibration_samples(self) -> int:
        return len(next(iter(self.calibration.values())))

    def head(self, count: int | None) -> Dataset:
        """The first `count` evaluation samples (None: all)."""
        if count is None or count >= self.samples:
            return self
        labels = None if self.labels is None else self.labels[:count]
        evaluation = {name: array[:count] for name, array in self.evaluation.items()}
        digest = hashlib.sha256(f"{self.hash}[:{count}]".encode()).hexdigest()
        return Dataset(self.name, self.calibration, evaluation, labels, digest)


@dataclass(frozen=True)
class Preprocessing:
    """How stored integers become inputs: reshape, axes (a permutation), ((x - zero_point) * scale - mean) /
    std.

    mean and std may be lists, one value for each entry of the axis `channel_axis` of the result.
    zero_point and scale may be None: the arrays of that name in the file are used when it has them.
    """

    axes: Sequence[int] | None = None
    reshape: Sequence[int] | None = None
    zero_point: float | None = None
    scale: float | None = None
    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0
    channel_axis: int = 1


def load_npz(
    path: str | Path, graph: Graph, preprocessing: Preprocessing | None = None, *, suffix: str = ""
) -> Dataset:
    """Read an .npz for `graph`; `suffix` picks another split (`x_eval<suffix>`, for instance "_ood").

    UserError names the file and the array when one is missing, holds Python objects or does not fit the
    model's input.
    """
    path = Path(path)
    arrays = _read(path)
    preprocessing = preprocessing or Preprocessing()
    facts: dict[str, Array] = {key: arrays[key] for key in ("zero_point", "scale") if key in arrays}

    def split(kind: str) -> dict[str, Array]:
        stored = _stored_inputs(path, arrays, graph, f"x_{kind}{suffix}")
        return {
            name: _prepare(path, name, array, graph, preprocessing, facts) for name, array in stored.items()
        }

    evaluation = split("eval")
    labels = arrays.get(f"y_eval{suffix}")
    lengths = {len(array) for array in evaluation.values()} | ({len(labels)} if labels is not None else set())
    if len(lengths) != 1 or 0 in lengths:
        raise UserError(
            f"{path}: x_eval and y_eval must have the same number of samples, at least one; they have {sorted(lengths)}"
        )
    digest = hashlib.sha256()
    for key in sorted(arrays):
        digest.update(f"{key}{arrays[key].dtype}{arrays[key].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[key]).tobytes())
    digest.update(f"{preprocessing}{suffix}".encode())
    return Dataset(
        path.stem if path.stem != "data" else path.parent.name,
        split("calib"),
        evaluation,
        labels,
        digest.hexdigest(),
    )


def _read(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except OSError as error:
        raise UserError(
            f"{path}: cannot read the data ({error.strerror or error}); "
            "an .npz with x_calib, x_eval and y_eval is expected"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{path}: holds Python objects or is not an .npz ({error}); save plain arrays with numpy.savez"
        ) from None


def _stored_inputs(path: Path, arrays: Mapping[str, Array], graph: Graph, key: str) -> dict[str, Array]:
    names = [name for name in graph.inputs if graph.tensors[name].kind == "input"]
    if len(names) == 1 and key in arrays:
        return {names[0]: arrays[key]}
    found = {name: arrays[f"{key}.{name}"] for name in names if f"{key}.{name}" in arrays}
    missing = [name for name in names if name not in found]
    if missing:
        wanted = key if len(names) == 1 else f"{key}.{missing[0]}"
        raise UserError(
            f"{path}: no array '{wanted}' for the model's input '{missing[0]}'; "
            f"the file has {', '.join(sorted(arrays))}"
        )
    return found


def _prepare(
    path: Path, name: str, x: Array, graph: Graph, how: Preprocessing, facts: Mapping[str, Array]
) -> Array:
    tensor = graph.tensors[name]
    if how.reshape is not None:
        try:
            x = x.reshape(tuple(how.reshape))
        except ValueError:
            raise UserError(
                f"{path}: data.reshape={list(how.reshape)} does not fit the array of shape {x.shape}"
            ) from None
    if how.axes is not None:
        if sorted(how.axes) != list(range(x.ndim)):
            raise UserError(
                f"{path}: data.axes={list(how.axes)} is not a permutation of the {x.ndim} axes of shape {x.shape}"
            )
        x = x.transpose(tuple(how.axes))
    if tensor.dtype.startswith(("int", "uint", "bool")):
        x = np.ascontiguousarray(x.astype(tensor.dtype))
    else:
        x = _normalize(x, how, facts)
    _check_shape(path, name, x, tensor.shape)
    return x


def _normalize(x: Array, how: Preprocessing, facts: Mapping[str, Array]) -> Array:
    zero_point = how.zero_point if how.zero_point is not None else facts.get("zero_point", 0)
    scale = how.scale if how.scale is not None else facts.get("scale", 1)

    def along_channels(value: float | Sequence[float]) -> Array:
        array = np.asarray(value, np.float32)
        return (
            array
            if array.ndim == 0
            else array.reshape([-1 if i == how.channel_axis else 1 for i in range(x.ndim)])
        )

    result = (x.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    return np.ascontiguousarray(
        (result - along_channels(how.mean)) / along_channels(how.std), dtype=np.float32
    )


def _check_shape(path: Path, name: str, x: Array, shape: Sequence[int | str]) -> None:
    fits = len(shape) == x.ndim and all(
        isinstance(want, str) or axis == 0 or want == have
        for axis, (want, have) in enumerate(zip(shape, x.shape, strict=True))
    )
    if not fits:
        raise UserError(
            f"{path}: input '{name}' of the model has shape {tuple(shape)}, the data give {x.shape}; "
            "data.reshape and data.axes turn one into the other"
        )
