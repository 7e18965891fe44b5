"""torch's operators that move or make elements, in terms of ONNX's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from qsim.errors import GraphError
from qsim.graph.aten.builder import LAST, Builder, Value, aten


@aten("view.default", "reshape.default", "_unsafe_view.default")
def _view(build: Builder, x: Value, shape: Sequence[Any]) -> Value:
    """A length known at run time only is copied from the input (0) where it stays, else inferred if alone (-1)."""
    before, after = build.example().shape, build.result().shape
    target = list(shape)
    for i, length in enumerate(shape):
        if not isinstance(length, int) and i < len(before) and str(before[i]) == str(after[i]):
            target[i] = 0
    computed = [i for i, length in enumerate(target) if not isinstance(length, int)]
    if len(computed) == 1 and -1 not in target:
        target[computed[0]] = -1
    zero_is_a_length = 0 in [length for length in shape if isinstance(length, int)]
    return build.emit("Reshape", x, build.integers(target), allowzero=1 if zero_is_a_length else None)


@aten("flatten.using_ints")
def _flatten(build: Builder, x: Value, start: int = 0, end: int = -1) -> Value:
    shape = build.example().shape
    rank = len(shape)
    first, last = start % rank, end % rank
    if first == 1 and last == rank - 1:
        return build.emit("Flatten", x, axis=1)
    target = [*(0,) * first, -1, *(int(n) for n in shape[last + 1 :])]
    return build.emit("Reshape", x, build.integers(target))


@aten("unflatten.int")
def _unflatten(build: Builder, x: Value, axis: int, sizes: Sequence[Any]) -> Value:
    shape = build.example().shape
    axis %= len(shape)
    target = [*(0,) * axis, *sizes, *(int(n) for n in shape[axis + 1 :])]
    return build.emit("Reshape", x, build.integers(target))


@aten("permute.default")
def _permute(build: Builder, x: Value, order: Sequence[int]) -> Value:
    return build.emit("Transpose", x, perm=tuple(axis % len(order) for axis in order))


@aten("transpose.int")
def _transpose(build: Builder, x: Value, first: int, second: int) -> Value:
    order = list(range(build.example().dim()))
    order[first], order[second] = order[second], order[first]
    return build.emit("Transpose", x, perm=tuple(order))


@aten("t.default", "numpy_T.default")
def _t(build: Builder, x: Value) -> Value:
    return build.emit("Transpose", x) if build.example().dim() > 1 else build.emit("Identity", x)


@aten("squeeze.dim", "squeeze.dims", "squeeze.default")
def _squeeze(build: Builder, x: Value, axes: Any = None) -> Value:
    shape = build.example().shape
    wanted = range(len(shape)) if axes is None else axes if isinstance(axes, list) else [axes]
    kept = [axis for axis in wanted if isinstance(shape[axis], int) and shape[axis] == 1]
    return build.emit("Squeeze", x, np.array(kept, np.int64)) if kept else build.emit("Identity", x)


@aten("unsqueeze.default")
def _unsqueeze(build: Builder, x: Value, axis: int) -> Value:
    return build.emit("Unsqueeze", x, np.array([axis]))


@aten("expand.default")
def _expand(build: Builder, x: Value, shape: Sequence[Any], implicit: bool = False) -> Value:
    return build.emit("Expand", x, build.integers([1 if n == -1 else n for n in shape]))


@aten("repeat.default")
def _repeat(build: Builder, x: Value, repeats: Sequence[Any]) -> Value:
    missing = len(repeats) - build.example().dim()
    if missing:
        x = build.emit("Unsqueeze", x, np.arange(missing))
    return build.emit("Tile", x, build.integers(repeats))


@aten("cat.default")
def _cat(build: Builder, values: Sequence[str], axis: int = 0) -> Value:
    return build.emit("Concat", *values, axis=axis)


@aten("stack.default")
def _stack(build: Builder, values: Sequence[str], axis: int = 0) -> Value:
    return build.emit("Concat", *(build.emit("Unsqueeze", v, np.array([axis])) for v in values), axis=axis)


@aten("split.Tensor", "split_with_sizes.default", "chunk.default", "split.sizes", "unsafe_split.Tensor")
def _split(build: Builder, x: Value, size: Any, axis: int = 0) -> Value:
    lengths = [int(part.shape[axis]) for part in build.result()]
    parts = build.emit("Split", x, build.integers(lengths), axis=axis, outputs=len(lengths))
    return parts if isinstance(parts, list) else [parts]


@aten("unbind.int")
def _unbind(build: Builder, x: Value, axis: int = 0) -> Value:
    count = int(build.example().shape[axis])
    return [build.emit("Gather", x, build.integer(i), axis=axis) for i in range(count)]


@aten("slice.Tensor", "slice_copy.Tensor")
def _slice(
    build: Builder, x: Value, axis: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    first = 0 if start is None else start
    last = LAST if end is None else end
    return build.emit("Slice", x, *(build.integers([v]) for v in (first, last, axis, step)))


@aten("narrow.default")
def _narrow(build: Builder, x: Value, axis: int, start: int, length: int) -> Value:
    return build.emit("Slice", x, *(build.integers([v]) for v in (start, start + length, axis)))


@aten("select.int", "select_copy.int")
def _select(build: Builder, x: Value, axis: int, index: Any) -> Value:
    return build.emit("Gather", x, build.integer(index), axis=axis)


@aten("index_select.default")
def _index_select(build: Builder, x: Value, axis: int, index: Value) -> Value:
    return build.emit("Gather", x, index, axis=axis)


@aten("gather.default")
def _gather(build: Builder, x: Value, axis: int, index: Value, sparse_grad: bool = False) -> Value:
    return build.emit("GatherElements", x, index, axis=axis)


@aten("index.Tensor")
def _index(build: Builder, x: Value, indices: Sequence[Value]) -> Value:
    """x[..., index, ...] with one index tensor, or index tensors on leading axes."""
    given = [(axis, name) for axis, name in enumerate(indices) if name is not None]
    if len(given) == 1:
        axis, name = given[0]
        kinds = [node.meta["val"].dtype for node in build.current.args[1] if node is not None]
        if kinds[0] != torch.bool:
            return build.emit("Gather", x, name, axis=axis)
    elif [axis for axis, _ in given] == list(range(len(given))):
        nodes = [node for node in build.current.args[1] if node is not None]
        shape = torch.broadcast_shapes(*(node.meta["val"].shape for node in nodes))
        if all(isinstance(n, int) for n in shape):
            full = [build.emit("Expand", name, build.integers(list(shape))) for _, name in given]
            columns = [build.emit("Unsqueeze", name, np.array([-1])) for name in full]
            return build.emit("GatherND", x, build.emit("Concat", *columns, axis=-1))
    raise GraphError(
        f"node '{build.current.name}': this form of indexing is not supported; use index_select or gather"
    )


@aten("flip.default")
def _flip(build: Builder, x: Value, axes: Sequence[int]) -> Value:
    count = len(axes)
    bounds = ([-1] * count, [-LAST] * count, list(axes), [-1] * count)
    return build.emit("Slice", x, *(build.integers(b) for b in bounds))


@aten("roll.default")
def _roll(build: Builder, x: Value, shifts: Sequence[int], axes: Sequence[int] = ()) -> Value:
    for shift, axis in zip(shifts, axes, strict=True):
        ends = [build.emit("Slice", x, *(build.integers([v]) for v in bounds))
                for bounds in ((-shift, LAST, axis), (0, -shift, axis))]  # fmt: skip
        x = build.emit("Concat", *ends, axis=axis) if shift else x
    return x


@aten("tril.default", "triu.default")
def _triangle(build: Builder, x: Value, diagonal: int = 0) -> Value:
    return build.emit("Trilu", x, build.integer(diagonal), upper=int("triu" in str(build.current.target)))


@aten("pixel_shuffle.default")
def _pixel_shuffle(build: Builder, x: Value, factor: int) -> Value:
    return build.emit("DepthToSpace", x, blocksize=factor, mode="CRD")


@aten("one_hot.default")
def _one_hot(build: Builder, index: Value, classes: int = -1) -> Value:
    return build.emit("OneHot", index, build.integer(classes), np.array([0, 1], np.int64), axis=-1)


@aten("sym_size.int")
def _sym_size(build: Builder, x: Value, axis: int) -> Value:
    return build.emit("Gather", build.emit("Shape", x), build.integer(axis), axis=0)


@aten("full.default", "zeros.default", "ones.default", "new_zeros.default", "new_ones.default", "new_full.default",
      "zeros_like.default", "ones_like.default", "full_like.default", "empty.memory_format")  # fmt: skip
def _full(build: Builder, shape: Any, *rest: Any, **options: Any) -> Value:
    name = str(build.current.target).split(".")[1]
    kind = np.dtype(str(build.result().dtype).removeprefix("torch."))
    fill = 1 if "ones" in name else 0
    if name in ("full", "full_like", "new_full"):
        fill = rest[-1]
    if name.startswith("new"):
        shape = rest[0]
    lengths = build.emit("Shape", shape) if name.endswith("like") else build.integers(shape)
    return build.emit("ConstantOfShape", lengths, value=np.array([fill], kind))


@aten("arange.default", "arange.start", "arange.start_step")
def _arange(build: Builder, *bounds: Any, **options: Any) -> Value:
    kind = np.dtype(str(build.result().dtype).removeprefix("torch."))
    start, end, step = {1: (0, *bounds, 1), 2: (*bounds, 1)}.get(len(bounds), bounds)
    return build.emit("Range", *(v if isinstance(v, str) else np.array(v, kind) for v in (start, end, step)))


@aten("scalar_tensor.default")
def _scalar_tensor(build: Builder, value: Any, **options: Any) -> Value:
    return build.tensor(np.array(value, np.dtype(str(build.result().dtype).removeprefix("torch."))))
