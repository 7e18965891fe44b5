"""Family `tflite`: whole int8 networks against LiteRT's reference kernels, layer by layer and end to end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from qsim.arithmetic.integer import affine_of, run_integer
from qsim.graph.tflite import Place, TfliteModel, load_tflite, read_tflite
from tests.golden.harness import Comparison, GoldenFile, compare

Arrays = Mapping[str, np.ndarray]


def runs(model: TfliteModel, inputs: Arrays, given: Arrays, keep: list[str]) -> dict[str, np.ndarray]:
    """`run_integer` on samples stacked along a new first axis: at once where the batch is symbolic, else one by one."""
    if model.graph.tensors[model.graph.inputs[0]].shape[0] != "batch":
        each = [
            run_integer(model.graph, model.plan, sample(inputs, index), keep, sample(given, index))
            for index in range(len(next(iter(inputs.values()))))
        ]
        return {name: np.stack([result[name] for result in each]) for name in each[0]}
    joined = [
        {name: array.reshape(-1, *array.shape[2:]) for name, array in group.items()}
        for group in (inputs, given)
    ]
    results = run_integer(model.graph, model.plan, joined[0], keep, joined[1])
    return {name: codes[:, None] for name, codes in results.items()}


def sample(group: Arrays, index: int) -> dict[str, np.ndarray]:
    return {name: array[index] for name, array in group.items()}


def to_graph(place: Place, stacked: np.ndarray) -> np.ndarray:
    return np.stack([place.to_graph(array) for array in stacked])


def golden_form(model: TfliteModel, place: Place, ours: np.ndarray, golden: np.ndarray) -> np.ndarray:
    """Our codes in the axes of the file; as real numbers where the file holds a float tensor."""
    codes = np.stack([place.from_graph(array) for array in ours]).reshape(golden.shape)
    return affine_of(model.plan, place.name).dequantize(codes) if golden.dtype.kind == "f" else codes


def check_model(file: GoldenFile) -> Iterator[Comparison]:
    path = file.path.parent / file.meta["model_file"]
    model, stored = load_tflite(path), read_tflite(path)
    for name in file.names:
        if name.startswith("const_"):
            yield compare(name, stored.tensors[int(name[6:])].data, file[name])
    yield from check_layers(file, model)
    (first,), (last, *_) = file.meta["graph_inputs"], file.meta["graph_outputs"]
    start, end = model.places[first], model.places[last]
    ours = runs(model, {start.name: to_graph(start, file["inputs"])}, {}, [])
    golden = file["outputs"]
    yield compare("whole network", golden_form(model, end, ours[end.name], golden), golden)


def check_layers(file: GoldenFile, model: TfliteModel) -> Iterator[Comparison]:
    """Every operator on the golden values of its inputs. Shapes that a file computes are in no graph."""
    golden = {int(name[4:]): file[name] for name in file.names if name.startswith("act_")}
    if not golden:
        return
    placed = {index: model.places[index] for index in golden if index in model.places}
    given = {
        place.name: to_graph(place, golden[index])
        for index, place in placed.items()
        if golden[index].dtype.kind != "f"
    }
    first = file.meta["graph_inputs"][0]
    outputs = [(op["op"], index) for op in file.meta["ops"] for index in op["outputs"] if index in placed]
    start = {placed[first].name: to_graph(placed[first], golden[first])}
    ours = runs(model, start, given, [placed[index].name for _, index in outputs])
    for op, index in outputs:
        values = golden_form(model, placed[index], ours[placed[index].name], golden[index])
        yield compare(f"{op} -> {index}", values, golden[index])


FORMS = {"tflite/*.npz": check_model}
CONTEXT = ("tflite/*.tflite",)
