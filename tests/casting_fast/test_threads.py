"""Results do not depend on the number of threads, which a user can set."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from qsim.casting import fast
from qsim.casting.fast import threads
from qsim.errors import UserError
from qsim.parse import parse
from tests.casting_fast.inputs import same_bits


@pytest.fixture(autouse=True)
def _given_back() -> Iterator[None]:
    import numba  # noqa: F401  (small arrays would take the general path before)

    yield
    fast.set_threads(None)


@pytest.mark.parametrize(
    "spec", ["e4m3fn", "mxfp4", "nvfp4", "int8@channel:float32", "int8@token:float32", "e4m3fn/stochastic8"]
)
@pytest.mark.parametrize("shape", [(7, 3, 5001), (105_003,)])
def test_same_result_for_any_number(
    monkeypatch: pytest.MonkeyPatch, spec: str, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(threads, "BIG", 1)
    x = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    results = []
    for count in (1, 2, 5):
        fast.set_threads(count)
        result = fast.quantize(x, parse(spec), seed=9, axis=0 if "channel" in spec else -1)
        assert result is not None
        results.append(result)
    assert same_bits(results[0], results[1]).all() and same_bits(results[0], results[2]).all()


def test_every_piece_of_work_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "BIG", 1)
    fast.set_threads(3)
    done = np.zeros(10, int)

    def work(first: int, last: int) -> bool:
        done[first:last] += 1
        return first <= 7 < last

    assert threads.spread(work, 10, 10)
    assert done.tolist() == [1] * 10


def test_the_environment_sets_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QSIM_THREADS", "3")
    assert fast.get_threads() == 3
    fast.set_threads(2)
    assert fast.get_threads() == 2


@pytest.mark.parametrize("text", ["0", "two", "-1"])
def test_a_wrong_number_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("QSIM_THREADS", text)
    with pytest.raises(UserError, match=f"QSIM_THREADS={text}"):
        fast.get_threads()
    with pytest.raises(UserError, match="at least 1"):
        fast.set_threads(0)


def test_import_and_small_arrays_do_not_load_numba() -> None:
    code = "import sys, numpy, qsim; qsim.quantize(numpy.ones(9, 'f4'), 'mxfp4'); sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
