"""Family `lmul`: L-Mul in its two published forms."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qsim.arithmetic import l_mul
from tests.golden.harness import Comparison, GoldenFile, compare

FORM = {"real": "l_mul_real", "int_add": "l_mul_int_add"}


def check_l_mul(file: GoldenFile) -> Iterator[Comparison]:
    for name in file.names:
        found = re.fullmatch(r"m(\d+)\.(real|int_add)", name)
        if found:
            mantissa, form = int(found[1]), found[2]
            ours = l_mul(file[f"m{mantissa}.x"], file[f"m{mantissa}.y"], mantissa, FORM[form])
            yield compare(name, ours, file[name])


FORMS = {"lmul/*.npz": check_l_mul}
