"""Family `fixed`, casts: ap_fixed and ac_fixed conversions of real numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import qsim
from tests.golden.harness import Comparison, GoldenFile, compare

QUANTIZATION = {
    "AP_TRN": "floor",
    "AP_TRN_ZERO": "toward_zero",
    "AP_RND": "nearest_up",
    "AP_RND_ZERO": "nearest_zero",
    "AP_RND_INF": "nearest_away",
    "AP_RND_MIN_INF": "nearest_down",
    "AP_RND_CONV": "nearest_even",
    "AC_RND_CONV_ODD": "nearest_odd",
}
OVERFLOW = {
    "SAT": "saturate",
    "SAT_SYM": "saturate_symmetric",
    "SAT_ZERO": "saturate_zero",
    "WRAP": "wrap",
    "WRAP_SM": "wrap_sign_magnitude",
}


def cast_of(quantization: str, overflow: str) -> str:
    """Our expression of a cast: AP_RND, AP_SAT -> /nearest_up/saturate; AC_ names alike."""
    rounding = QUANTIZATION.get(quantization) or QUANTIZATION["AP_" + quantization.removeprefix("AC_")]
    return f"/{rounding}/{OVERFLOW[overflow[3:]]}"


def check_casts(file: GoldenFile) -> Iterator[Comparison]:
    """Raw codes of every mode. Signed W=1 with SAT_SYM: the sources give -1, the definition 0 (README.md)."""
    meta, x = file.meta, file["x"]
    for mode in file.names:
        if mode == "x":
            continue
        quantization, overflow = mode.split(".")
        spec = f"{'' if meta['signed'] else 'u'}fixed{meta['W']}.{meta['I']}{cast_of(quantization, overflow)}"
        is_disputed = meta["signed"] and meta["W"] == 1 and overflow.endswith("SAT_SYM")
        yield compare(mode, qsim.encode(x, spec).codes.astype(np.int64), file[mode], allow=is_disputed)


FORMS = {"fixed/W*.npz": check_casts}
