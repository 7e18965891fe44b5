"""Makes the tflite files of the small golden folder: `python tests/golden/own/make_tflite.py`.

Needs tensorflow (2.21 was used) and ai-edge-litert (2.3.0), which are no dependencies of the project. Networks of our
own with random weights are converted to int8, every scale is rounded to a power of two so that requantization meets
many ties, and LiteRT's reference kernels say what every tensor holds. They cover what ../shared/golden/tflite does not:
depthwise and transposed convolutions, products, concatenation, slopes, tables, means, slices, resizing, attention.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

FOLDER = Path(__file__).parent / "tflite"
SAMPLES = 2
layers = tf.keras.layers


def mixed(x):
    x = layers.ZeroPadding2D(((1, 2), (0, 1)))(x)
    x = layers.Conv2D(6, 3, dilation_rate=2, activation="relu6")(x)
    gate = layers.Activation("sigmoid")(layers.Conv2D(6, 1)(x))
    x = layers.MaxPooling2D(2)(layers.Concatenate()([x, layers.Multiply()([x, gate])]))
    x = layers.LeakyReLU(0.2)(layers.Conv2D(6, 3, padding="same")(x))
    x = layers.Activation("tanh")(layers.Conv2DTranspose(4, 3, strides=2, padding="same")(x))
    x = layers.Subtract()([x, layers.GlobalAveragePooling2D(keepdims=True)(x)])
    x = layers.Cropping2D(((1, 0), (0, 1)))(layers.AveragePooling2D(3, strides=2, padding="same")(x))
    return layers.Dense(5)(layers.Dense(7, activation="relu")(layers.GlobalAveragePooling2D()(x)))


def mobile(x):
    x = layers.Conv2D(6, 3, strides=2, padding="same")(x)
    x = layers.Lambda(lambda t: t * tf.nn.relu6(t + 3.0) * (1 / 6.0))(x)
    x = layers.PReLU(shared_axes=[1, 2])(layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x))
    x = layers.Reshape((25, 12))(layers.Permute((2, 1, 3))(layers.Activation("gelu")(x)))
    x = layers.Dense(7)(x)
    return layers.Softmax()(layers.GlobalMaxPooling1D()(layers.Maximum()([x, layers.Dense(7)(x)])))


def images(x):
    x = layers.Lambda(lambda t: tf.image.resize(t, (11, 9)))(layers.Conv2D(4, 3, padding="same")(x))
    x = layers.Lambda(lambda t: tf.nn.space_to_depth(t[:, :8, 2:], 2))(layers.Conv2D(4, 2)(x))
    x = layers.Conv2D(3, 1)(x)
    first, last = layers.Lambda(lambda t: tf.split(t, [2, 1], -1))(x)
    x = layers.Concatenate(axis=1)([last, layers.Lambda(lambda t: t[..., :1])(first)])
    return layers.Lambda(lambda t: tf.pad(t, [[0, 0], [1, 2], [0, 1], [0, 0]], mode="REFLECT"))(x)


def attention(x):
    x = layers.Add()([layers.MultiHeadAttention(2, 4)(x, x), x])
    return layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.Dense(8, activation="relu")(x)))


NETWORKS: dict[str, tuple[tuple[int, ...], Callable]] = {
    "mixed": ((12, 12, 3), mixed),
    "mobile": ((10, 10, 3), mobile),
    "images": ((7, 7, 3), images),
    "attention": ((6, 8), attention),
}


def convert(shape: tuple[int, ...], network: Callable, rng: np.random.Generator) -> bytes:
    source = tf.keras.Input(shape, batch_size=1)
    model = tf.keras.Model(source, network(source))
    for weight in model.weights:
        spread = 0.3 if "bias" in weight.path else 1.5 * float(np.std(weight.numpy())) + 0.05
        weight.assign(rng.normal(0, spread, weight.shape))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    data = rng.normal(0, 1.3, (30, 1, *shape)).astype(np.float32)
    converter.representative_dataset = lambda: ([sample] for sample in data)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return with_powers_of_two(converter.convert())


def with_powers_of_two(model: bytes) -> bytes:
    tables = schema.ModelT.InitFromPackedBuf(model, 0)
    for tensor in tables.subgraphs[0].tensors:
        quantization = tensor.quantization
        if quantization is not None and quantization.scale is not None:
            exponents = np.round(np.log2(np.asarray(quantization.scale, np.float64)))
            quantization.scale = (2.0**exponents).astype(np.float32)
    builder = flatbuffers.Builder(len(model))
    builder.Finish(tables.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def golden(path: Path, inputs: np.ndarray) -> None:
    """Run the reference kernels and write the file form of ../shared/golden/tflite."""
    tables = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = tables.subgraphs[0]
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in tables.operatorCodes]
    operators = [
        {"op": names[codes[o.opcodeIndex]], "inputs": o.inputs.tolist(), "outputs": o.outputs.tolist()}
        for o in graph.operators
    ]
    first, last = graph.inputs.tolist(), graph.outputs.tolist()
    activations = [*first, *(index for operator in operators for index in operator["outputs"])]
    interpreter = Interpreter(
        str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    found: dict[str, list[np.ndarray]] = {f"act_{index}": [] for index in activations}
    for sample in inputs:
        interpreter.set_tensor(first[0], sample)
        interpreter.invoke()
        for index in activations:
            found[f"act_{index}"].append(interpreter.get_tensor(index).copy())
    arrays = {name: np.stack(values) for name, values in found.items()}
    source = "ai-edge-litert 2.3.0, OpResolverType.BUILTIN_REF, on a network of our own"
    meta = {
        "source": source,
        "model_file": path.name,
        "ops": operators,
        "graph_inputs": first,
        "graph_outputs": last,
    }
    outputs = arrays[f"act_{last[0]}"]
    np.savez_compressed(
        path.with_suffix(".npz"), inputs=inputs, outputs=outputs, **arrays, __meta__=json.dumps(meta)
    )


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    rng = np.random.default_rng(11)
    tf.random.set_seed(11)
    for name, (shape, network) in NETWORKS.items():
        path = FOLDER / f"{name}.tflite"
        path.write_bytes(convert(shape, network, rng))
        golden(path, rng.integers(-128, 128, (SAMPLES, 1, *shape)).astype(np.int8))


if __name__ == "__main__":
    main()
