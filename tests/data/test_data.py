"""User data become model inputs as the configuration says, or one line says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qsim
from qsim.data import Preprocessing, load_npz
from qsim.errors import UserError
from tests.emulator.networks import small_cnn


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> qsim.Graph:
    return qsim.load_model(small_cnn(tmp_path_factory.mktemp("model")))


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def test_integers_become_inputs_by_axes_scale_mean_and_std(graph: qsim.Graph, tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", x_calib=images(4), x_eval=images(6, 1), y_eval=np.arange(6))
    how = Preprocessing(axes=[0, 3, 1, 2], zero_point=10, scale=0.5, mean=[1.0, 2.0, 3.0], std=2.0)
    data = load_npz(path, graph, how)
    channels = np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1)
    expected = ((images(6, 1).astype(np.float32).transpose(0, 3, 1, 2) - 10) * np.float32(0.5) - channels) / 2
    np.testing.assert_array_equal(data.evaluation["x"], expected)
    assert (data.samples, data.calibration_samples) == (6, 4)


def test_scale_and_zero_point_of_the_file_are_used(graph: qsim.Graph, tmp_path: Path) -> None:
    arrays = {"x_calib": images(2), "x_eval": images(2), "y_eval": np.arange(2)}
    path = save(tmp_path / "data.npz", **arrays, scale=np.float32(0.25), zero_point=np.int32(3))
    data = load_npz(path, graph, Preprocessing(axes=[0, 3, 1, 2]))
    expected = (images(2).astype(np.float32).transpose(0, 3, 1, 2) - 3) * np.float32(0.25)
    np.testing.assert_array_equal(data.evaluation["x"], expected)


def test_the_hash_follows_content_and_preprocessing(graph: qsim.Graph, tmp_path: Path) -> None:
    a = save(tmp_path / "a.npz", x_calib=images(2), x_eval=images(2), y_eval=np.arange(2))
    b = save(tmp_path / "b.npz", x_calib=images(2), x_eval=images(2, 1), y_eval=np.arange(2))
    how = Preprocessing(axes=[0, 3, 1, 2])
    assert load_npz(a, graph, how).hash == load_npz(a, graph, how).hash
    assert load_npz(a, graph, how).hash != load_npz(b, graph, how).hash
    assert load_npz(a, graph, how).hash != load_npz(a, graph, Preprocessing(axes=[0, 3, 1, 2], std=2.0)).hash
    assert load_npz(a, graph, how).head(1).hash != load_npz(a, graph, how).hash


@pytest.mark.parametrize(
    "arrays, how, message",
    [
        ({"x_eval": images(2), "y_eval": np.arange(2)}, {"axes": [0, 3, 1, 2]}, "no array 'x_calib'"),
        (
            {"x_calib": images(2), "x_eval": images(2), "y_eval": np.arange(3)},
            {"axes": [0, 3, 1, 2]},
            "same number",
        ),
        (
            {"x_calib": images(2), "x_eval": images(2), "y_eval": np.arange(2)},
            {},
            "data.reshape and data.axes",
        ),
        (
            {"x_calib": images(2), "x_eval": images(2), "y_eval": np.arange(2)},
            {"axes": [0, 3]},
            "not a permutation",
        ),
        (
            {"x_calib": images(2), "x_eval": images(2), "y_eval": np.arange(2)},
            {"reshape": [-1, 7]},
            "does not fit",
        ),
    ],
)
def test_data_that_do_not_fit_are_refused(
    graph: qsim.Graph, tmp_path: Path, arrays: dict[str, np.ndarray], how: dict[str, list[int]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_npz(save(tmp_path / "data.npz", **arrays), graph, Preprocessing(**how))


def test_python_objects_in_the_archive_are_refused(graph: qsim.Graph, tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", x_eval=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="Python objects"):
        load_npz(path, graph)
    with pytest.raises(UserError, match="cannot read"):
        load_npz(tmp_path / "nowhere.npz", graph)
