"""Reading a quantized TFLite network."""

from __future__ import annotations

from pathlib import Path

from qsim.errors import GraphError
from qsim.graph.tflite.compute import COMPUTING
from qsim.graph.tflite.file import FileOperator, read_tflite
from qsim.graph.tflite.moving import MOVING
from qsim.graph.tflite.translator import TfliteModel, Translator

TRANSLATIONS = {**COMPUTING, **MOVING}


def load_tflite(path: str | Path) -> TfliteModel:
    """Read a fully quantized .tflite file with one subgraph.

    A batch of 1 becomes symbolic unless an operator mixes it with another axis. Float inputs and outputs behind
    QUANTIZE and DEQUANTIZE take the quantized tensor's plan. Raises GraphError, in one line that names the file,
    for a damaged file, an operator that is not supported, and a tensor that is not quantized.
    """
    file = read_tflite(path)
    translator = Translator(file)
    try:
        for operator in file.operators:
            _translate(translator, operator)
        return translator.finish(Path(path).stem)
    except GraphError as error:
        raise GraphError(f"'{path}': {error}") from None


def _translate(translator: Translator, operator: FileOperator) -> None:
    if translator.is_shape_arithmetic(operator):
        return  # the file states every shape that such operators compute
    translate = TRANSLATIONS.get(operator.op)
    if translate is None:
        raise GraphError(f"operator {operator.op} is not supported")
    translator.operator = operator
    try:
        translate(translator, operator)
    except (IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        if isinstance(error, GraphError):
            raise
        # Too few operands, axes out of range, lengths that do not fit: a file may state anything.
        raise GraphError(
            f"operator {operator.op} ({operator.index}) has operands that do not fit: {error}"
        ) from None
