"""How a translation ends: its node, the activation function it fuses, and the layout its operands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qsim.errors import GraphError
from qsim.graph.ir import Attribute
from qsim.graph.tflite.file import FileOperator
from qsim.graph.tflite.translator import Layout, Translator

Translation = Callable[[Translator, FileOperator], None]
Attributes = Mapping[str, Attribute]
RULE = "tflite_double"
_CLIPS = {2: (-1.0, 1.0), 3: (0.0, 6.0)}  # RELU_N1_TO_1, RELU6


def emit(
    t: Translator,
    op: FileOperator,
    onnx_op: str,
    inputs: Sequence[str | None],
    attributes: Attributes,
    layout: Layout = "as_stored",
    rule: str = RULE,
    target: str | None = None,
) -> None:
    """One node for the operator and, if it fuses an activation function, one for that."""
    activation = op.options.get("activation", 0)
    output = target or t.write(op.outputs[0], layout)
    if activation == 0:
        t.add_node(onnx_op, inputs, [output], attributes, rule)
        return
    if activation not in (1, *_CLIPS):
        raise GraphError(
            f"{op.op} fuses activation function {activation}; supported: RELU, RELU6, RELU_N1_TO_1"
        )
    linear = t.before(op.outputs[0], "linear")
    t.add_node(onnx_op, inputs, [linear], attributes, rule)
    if activation == 1:
        t.add_node("Relu", [linear], [output], rule=rule, name=f"relu_{op.index}")
    else:
        bounds = [
            t.real(label, value) for label, value in zip(("min", "max"), _CLIPS[activation], strict=True)
        ]
        t.add_node("Clip", [linear, *bounds], [output], rule=rule, name=f"clip_{op.index}")


def shared_layout(t: Translator, op: FileOperator) -> Layout:
    """Channels first where an activation lies so and every other can be brought there, else as stored."""
    activations = [index for index in op.inputs if t.tensor(index).data is None]
    can_turn = all(len(t.tensor(index).shape) == 4 for index in activations)
    turned = can_turn and any(t.layout(index) == "channels_first" for index in activations)
    return "channels_first" if turned else "as_stored"
