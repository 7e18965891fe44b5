"""The bit plan: one number system per tensor, one arithmetic per layer, and every value that was tuned.

On disk a plan is `plan.json` (schema: qsim/schemas/plan-1.schema.json) beside `plan.safetensors` with the
arrays. What was
tuned is what is stored: integer codes, scales and zero points are read back, never derived again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import qsim
from qsim.arithmetic.mac import Mac
from qsim.errors import PlanError, UserError
from qsim.spec import Spec

Role = Literal["weight", "bias", "activation"]
Arithmetic = Literal["exact", "fast"]
Array = NDArray[Any]
SCHEMA = "qsim-plan/1"


@dataclass(frozen=True)
class ChannelSpec:
    """Output channels of one tensor that share a spec, where a tensor mixes several."""

    channels: tuple[int, ...]
    spec: Spec


@dataclass(frozen=True, eq=False)
class TensorPlan:
    """The number system of one tensor.

    spec: one spec, or several over disjoint output channels of a weight.
    role, axis: a weight or bias has its output channels along `axis`; an activation its features (the
    reduction).
    scale, zero_point: values, broadcast by the spec's granularity; None = computed at run time by the scale
    rule.
    codes: unsigned integer codes of a weight or bias, in the tensor's own shape.
    """

    spec: Spec | tuple[ChannelSpec, ...]
    role: Role
    axis: int
    scale: Array | None = None
    zero_point: Array | None = None
    codes: Array | None = None

    @property
    def is_dynamic(self) -> bool:
        """Whether a scale is computed at run time."""
        return self.scale is None and any(spec.scale is not None for spec in self.specs)

    @property
    def specs(self) -> tuple[Spec, ...]:
        return (self.spec,) if isinstance(self.spec, Spec) else tuple(part.spec for part in self.spec)

    @property
    def text(self) -> str:
        """The spec as people read it; a mixed tensor joins its specs with '|'."""
        return "|".join(str(spec) for spec in self.specs)


@dataclass(frozen=True)
class LayerPlan:
    """The arithmetic of one layer."""

    mac: Mac = Mac()
    requantize: str | None = None
    function: str | None = None


@dataclass(frozen=True, eq=False)
class BitPlan:
    """A configuration of a whole network; `id` is the hash of everything in it that can change a result."""

    tensors: Mapping[str, TensorPlan]
    layers: Mapping[str, LayerPlan] = field(default_factory=dict)
    model_name: str = ""
    model_hash: str = ""
    arithmetic: Arithmetic = "exact"
    seed: int = 0
    tables: Mapping[str, Array] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    qsim_version: str = qsim.__version__

    def __post_init__(self) -> None:
        for name in ("tensors", "layers", "tables", "provenance"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits; equal plans have equal ids whatever wrote them."""
        document = {
            key: value for key, value in self._document().items() if key not in ("provenance", "qsim_version")
        }
        digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
        for key, array in sorted(self._arrays()):
            digest.update(f"{key}{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]

    def save(self, path: str | Path) -> Path:
        """Write `path` (plan.json) and the .safetensors of the same stem beside it."""
        from safetensors.numpy import save_file

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {key: np.ascontiguousarray(array) for key, array in self._arrays()}
        save_file(arrays, path.with_suffix(".safetensors"))
        path.write_text(json.dumps(self._document(), indent=1) + "\n")
        return path

    @classmethod
    def load(cls, path: str | Path) -> BitPlan:
        """Read a plan; PlanError (one line, naming the file and the entry) when it does not match the schema."""
        path = Path(path)
        document = _read_document(path)
        arrays = _read_arrays(path.with_suffix(".safetensors"))
        try:
            tensors = {name: _tensor_from(name, entry, arrays) for name, entry in document["tensors"].items()}
            layers = {name: _layer_from(entry) for name, entry in document["layers"].items()}
        except UserError as error:
            raise PlanError(f"{path}: {error}") from None
        return cls(
            tensors=tensors,
            layers=layers,
            model_name=document["model"]["name"],
            model_hash=document["model"]["hash"],
            arithmetic=document.get("arithmetic", "exact"),
            seed=document.get("seed", 0),
            tables={key[6:]: value for key, value in arrays.items() if key.startswith("table.")},
            provenance=document.get("provenance", {}),
            qsim_version=document["qsim_version"],
        )

    def _document(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "qsim_version": self.qsim_version,
            "model": {"name": self.model_name, "hash": self.model_hash},
            "arithmetic": self.arithmetic,
            "seed": self.seed,
            "provenance": dict(self.provenance),
            "tensors": {name: _tensor_entry(tensor) for name, tensor in self.tensors.items()},
            "layers": {name: _layer_entry(layer) for name, layer in self.layers.items()},
        }

    def _arrays(self) -> Iterator[tuple[str, Array]]:
        for name, tensor in self.tensors.items():
            if tensor.codes is not None:
                yield f"{name}.codes", tensor.codes
            for kind in ("scale", "zero_point"):
                value = getattr(tensor, kind)
                if value is not None and not _is_inline(value):
                    yield f"{name}.{kind}", value
        for name, table in self.tables.items():
            yield f"table.{name}", table


def _is_inline(value: Array) -> bool:
    # A non-finite number is not JSON, so it travels as an array.
    return value.ndim == 0 and value.dtype in (np.float32, np.int64) and bool(np.isfinite(value))


def _tensor_entry(tensor: TensorPlan) -> dict[str, Any]:
    spec: Any = str(tensor.spec)
    if not isinstance(tensor.spec, Spec):
        spec = [{"channels": list(part.channels), "spec": str(part.spec)} for part in tensor.spec]
    entry: dict[str, Any] = {"spec": spec, "role": tensor.role, "axis": tensor.axis}
    for kind in ("scale", "zero_point"):
        value = getattr(tensor, kind)
        if value is not None:
            entry[kind] = value.item() if _is_inline(value) else "array"
    if tensor.codes is not None:
        entry["codes"] = "array"
    return entry


def _layer_entry(layer: LayerPlan) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    if layer.mac != Mac():
        entry["mac"] = layer.mac.to_dict()
    if layer.requantize is not None:
        entry["requantize"] = layer.requantize
    if layer.function is not None:
        entry["function"] = layer.function
    return entry


def _tensor_from(name: str, entry: Mapping[str, Any], arrays: Mapping[str, Array]) -> TensorPlan:
    from qsim.parse import parse

    def value(kind: str, dtype: type) -> Array | None:
        if kind not in entry:
            return None
        if entry[kind] != "array":
            return np.array(entry[kind], dtype)
        if f"{name}.{kind}" not in arrays:
            raise PlanError(
                f"tensor '{name}' says its {kind} is in the .safetensors beside it, where '{name}.{kind}' is missing"
            )
        return arrays[f"{name}.{kind}"]

    spec: Spec | tuple[ChannelSpec, ...]
    try:
        if isinstance(entry["spec"], str):
            spec = parse(entry["spec"])
        else:
            spec = tuple(ChannelSpec(tuple(part["channels"]), parse(part["spec"])) for part in entry["spec"])
    except UserError as error:
        raise PlanError(f"tensor '{name}': {error}") from None
    codes = value("codes", np.uint32)
    if codes is not None and codes.dtype.kind not in "ui":
        raise PlanError(f"tensor '{name}': codes are {codes.dtype}, they must be integers")
    return TensorPlan(
        spec, entry["role"], entry["axis"], value("scale", np.float32), value("zero_point", np.int64), codes
    )


def _layer_from(entry: Mapping[str, Any]) -> LayerPlan:
    return LayerPlan(Mac.from_dict(entry.get("mac", {})), entry.get("requantize"), entry.get("function"))


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise PlanError(f"{path}: cannot read the plan ({error.strerror})") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PlanError(f"{path}: not a JSON file ({error})") from None
    import jsonschema

    validator = jsonschema.Draft202012Validator(_schema())
    problem = next(
        iter(sorted(validator.iter_errors(document), key=lambda error: list(map(str, error.path)))), None
    )
    if problem is not None:
        where = " / ".join(map(str, problem.path)) or "the plan"
        raise PlanError(f"{path}: {where}: {problem.message.splitlines()[0][:200]}")
    assert isinstance(document, dict)
    return document


def _read_arrays(path: Path) -> dict[str, Array]:
    if not path.exists():
        return {}
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise PlanError(f"{path}: not a safetensors file ({error})") from None


@cache
def _schema() -> dict[str, Any]:
    text = (files("qsim") / "schemas" / "plan-1.schema.json").read_text()
    schema: dict[str, Any] = json.loads(text)
    return schema
