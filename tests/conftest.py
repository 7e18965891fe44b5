"""What every test may use: where ../shared is, and the options of the golden harness."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Tests run in parallel processes (`-n 2`); a thread pool in each would only fight over the same cores.
# Set before numpy, numba or torch are imported. A value given by the user stays.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# A deadline is a timing, and no timing is pass or fail here; a first call may also compile. CI tries the same
# examples every time, so that what it says of a change is due to the change; at a desk they are new every time.
settings.register_profile("qsim", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("qsim")

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of tests/golden; pytest accepts them from the first conftest only, hence here."""
    group = parser.getgroup("golden", "golden vectors")
    group.addoption(
        "--golden",
        metavar="DIR",
        default=None,
        help="folder with index.json and golden vectors (default: ../shared/golden)",
    )
    group.addoption(
        "--families",
        metavar="A,B",
        default=None,
        help="only these families of golden vectors (numfmt, fixed, float, mx, onnx, torchq, tflite, ...)",
    )


def shared_folder() -> Path:
    """Folder with golden vectors, trained networks and research notes: QSIM_SHARED, or ../shared."""
    return Path(os.environ.get("QSIM_SHARED", ROOT.parent / "shared")).resolve()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared folder; tests that read it skip where it is absent."""
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip(f"no folder {folder} (set QSIM_SHARED to where golden/, zoo/ and bench/ are)")
    return folder


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root folder."""
    return ROOT
