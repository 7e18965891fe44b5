"""A quantized TFLite file as a Graph and the BitPlan that makes it integer only.

The graph is the network in real numbers, in ONNX operators: images are moved to channels first where a convolution or
pooling needs it. The plan holds what the file holds: codes, scales, zero points, int32 biases, and for every operator
the requantization rule of LiteRT's reference kernels. `qsim.arithmetic.integer.run_integer` runs both.

    file        the FlatBuffers tables as dataclasses      translator   the graph and plan under construction
    compute     operators that compute                     moving       operators that move data
    load        load_tflite                                emit         how a translation ends
"""

from __future__ import annotations

from qsim.graph.tflite.file import read_tflite
from qsim.graph.tflite.load import load_tflite
from qsim.graph.tflite.translator import Place, TfliteModel

__all__ = ["Place", "TfliteModel", "load_tflite", "read_tflite"]
