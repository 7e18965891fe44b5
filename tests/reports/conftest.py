"""A made-up table of results with the shape of a real one: eight to two bits, a searched front, intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

UNIFORM_ACCURACY = {8: 0.984, 6: 0.98, 4: 0.91, 3: 0.42, 2: 0.102}


def make_table(seed: int = 0, searches: tuple[str, ...] = ("ilp", "nsga2"), points: int = 9) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [{"search": "float32", "label": "float32", "report": 0.986, "choose": 0.984, "bits": 32.0}]
    rows += [
        {
            "search": "uniform",
            "label": f"uniform int{bits}",
            "report": accuracy,
            "choose": accuracy,
            "bits": bits,
        }
        for bits, accuracy in UNIFORM_ACCURACY.items()
    ]
    for search in searches:
        for index, bits in enumerate(np.linspace(2.8, 7.5, points)):
            accuracy = 0.986 - 0.6 * np.exp(-1.9 * (bits - 2)) + rng.normal(0, 0.002)
            label = f"{search} {index + 1}/{points}"
            rows.append(
                {
                    "search": search,
                    "label": label,
                    "report": accuracy,
                    "choose": accuracy + 0.001,
                    "bits": bits,
                }
            )
    table = pd.DataFrame(rows)
    half_width = 1.96 * np.sqrt(table["report"] * (1 - table["report"]) / 500)
    bits = table.pop("bits")
    is_float = table["search"] == "float32"
    result = pd.DataFrame(
        {
            "plan_id": [f"plan{seed}{index:07d}" for index in range(len(table))],
            "search": table["search"],
            "label": table["label"],
            "metric": "top1",
            "choose_value": table["choose"],
            "choose_low95": table["choose"] - half_width,
            "choose_high95": np.minimum(table["choose"] + half_width, 1),
            "report_value": table["report"],
            "report_low95": table["report"] - half_width,
            "report_high95": np.minimum(table["report"] + half_width, 1),
            "report_difference": table["report"] - 0.986,
            "report_difference_low95": table["report"] - 0.986 - half_width / 2,
            "report_difference_high95": table["report"] - 0.986 + half_width / 2,
            "agreement": table["report"],
            "lut": (900 * bits**1.3).where(~is_float),
            "latency_s": (2e-6 * bits**0.5).where(~is_float),
            "energy_j": (4e-8 * bits**1.2).where(~is_float),
            "weight_bytes": 10218 * bits / 8,
            "is_front": table["search"] == "ilp",
            "model": "digits",
            "model_hash": "0" * 64,
            "data_hash": "1" * 64,
            "hardware": "fpga_zcu104",
            "formats": "int",
            "seed": seed,
            "qsim_version": "0.1.0",
            "seconds": 1.5,
        }
    )
    for name in ("lut", "latency_s", "energy_j"):
        result[f"{name}_low90"] = result[name] * 0.88
        result[f"{name}_high90"] = result[name] * 1.12
    return result


@pytest.fixture
def results() -> Callable[..., pd.DataFrame]:
    return make_table
