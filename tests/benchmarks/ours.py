"""Our column in the peers' benchmark: python ../shared/bench/emulator_peers.py --ours tests/benchmarks/ours.py ...

One thread, unless QSIM_THREADS says otherwise. The result goes into one array kept from call to call (`out=`), as
the memcpy row of the benchmark does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("QSIM_THREADS", "1")

import qsim

SEED = 0
SPECS: dict[str, tuple[str, dict[str, Any]]] = {
    "int8": ("int8+zp@tensor:float32", {"scale": np.float32(0.03), "zero_point": 5}),
    "fixed84": ("fixed8.4", {}),
    "e4m3fn": ("e4m3fn", {}),
    "e5m2": ("e5m2", {}),
    "e3m2": ("e3m2fn", {}),
    "e2m1": ("e2m1fn", {}),
    "bf16": ("bfloat16", {}),
    "mxfp8": ("mxfp8_e4m3", {}),
    "mxfp4": ("mxfp4", {}),
    "nvfp4": ("nvfp4", {}),
    "e4m3_sr": ("e4m3fn/stochastic8", {"seed": SEED}),
}

_outputs: dict[int, NDArray[np.float32]] = {}


def ours(name: str, x: Any) -> Any:
    """The result of one case. Element cases: `x` is a float32 array; GEMM cases: two matrices."""
    if name.startswith("gemm_"):
        from tests.benchmarks.gemm import gemm

        return gemm(name, x)
    if name not in SPECS:
        raise NotImplementedError(name)
    spec, options = SPECS[name]
    return qsim.quantize(x, spec, out=_output(x), **options)


def _output(x: NDArray[np.float32]) -> NDArray[np.float32]:
    if x.size not in _outputs:
        _outputs.clear()
        _outputs[x.size] = np.empty_like(x)
    return _outputs[x.size]
