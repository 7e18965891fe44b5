"""What was measured is kept: across processes, kills and forks; nothing is measured twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qsim.errors import UserError
from searches.store import Store, key_of

QUESTION = {"model": "m", "data": "d", "plan": ["int8", "int4"], "metric": "top1"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evaluations.sqlite"


def test_an_answer_comes_back_as_json_gives_it(path: Path) -> None:
    store = Store(path)
    assert store.get(QUESTION) is None
    assert QUESTION not in store
    answer = {"value": 0.1 + 0.2, "pair": (1, 2), "none": None, "infinite": float("inf")}
    fresh = store.measure(QUESTION, lambda: answer)
    assert fresh == {"value": 0.30000000000000004, "pair": [1, 2], "none": None, "infinite": float("inf")}
    assert Store(path).get(QUESTION) == fresh
    assert len(store) == 1
    assert [(q, a) for q, a, _ in store.records()] == [(QUESTION, fresh)]


def test_the_key_is_the_content_whatever_its_order() -> None:
    assert key_of({"a": 1, "b": [True, None]}) == key_of({"b": [True, None], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 1.0})


@pytest.mark.parametrize("question", [{"x": float("nan")}, {"x": {1, 2}}, {"x": b"bytes"}])
def test_a_question_must_be_plain_json(path: Path, question: object) -> None:
    with pytest.raises(UserError, match="must be plain JSON"):
        Store(path).get(question)


def test_the_first_answer_stays(path: Path) -> None:
    store = Store(path)
    assert store.put(QUESTION, 1) == 1
    assert store.put(QUESTION, 2) == 1
    assert store.measure(QUESTION, lambda: pytest.fail("measured twice")) == 1


def test_a_failed_measurement_leaves_the_question_open(path: Path) -> None:
    store = Store(path)
    with pytest.raises(ZeroDivisionError):
        store.measure(QUESTION, lambda: 1 // 0)
    assert QUESTION not in store
    assert store.measure(QUESTION, lambda: 5) == 5


def test_a_pickled_store_is_the_same_store(path: Path) -> None:
    store = Store(path)
    store.put(QUESTION, 7)
    assert pickle.loads(pickle.dumps(store)).get(QUESTION) == 7


def _measure_all(path: Path, log: Path) -> None:
    store = Store(path)

    def slow(i: int) -> int:
        with log.open("a") as file:
            file.write(f"{i}\n")
        time.sleep(0.02)
        return i * i

    for i in range(20):
        assert store.measure({"question": i}, lambda i=i: slow(i)) == i * i


def test_processes_that_share_a_store_measure_everything_once(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "measured"
    workers = [
        multiprocessing.get_context("fork").Process(target=_measure_all, args=(path, log)) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert sorted(map(int, log.read_text().split())) == list(range(20))
    assert len(Store(path)) == 20


ENDLESS = """
import sys, time
from searches.store import Store
store = Store(sys.argv[1])
for i in range(100_000):
    def measure(i=i):
        print(i, flush=True)
        if i == 7 and len(sys.argv) > 2:
            time.sleep(60)
        return i
    store.measure({"question": i}, measure)
"""


def test_a_killed_process_loses_nothing_that_was_finished(path: Path, project: Path) -> None:
    for kill_after in (3, 11, 30):
        worker = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(path)], cwd=project, stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        started = [int(worker.stdout.readline()) for _ in range(kill_after)]
        worker.kill()
        worker.communicate()
        store = Store(path)
        assert [store.get({"question": i}) for i in range(started[-1])] == list(range(started[-1]))
        with sqlite3.connect(path) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_claim_of_a_killed_process_is_free_at_once(path: Path, project: Path) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(path), "sleep"], cwd=project, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    for i in range(8):
        assert int(worker.stdout.readline()) == i
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    start = time.monotonic()
    assert Store(path, lease_s=1000).measure({"question": 7}, lambda: "mine") == "mine"
    assert time.monotonic() - start < 30


def _claim_of_another_machine(path: Path, expires: float) -> None:
    with sqlite3.connect(path) as database:
        row = (key_of(QUESTION), "someone", "another-machine", 1, expires)
        database.execute("INSERT INTO claims VALUES (?, ?, ?, ?, ?)", row)


def test_the_claim_of_another_machine_lapses(path: Path) -> None:
    store = Store(path)
    _claim_of_another_machine(path, time.time() + 0.3)
    start = time.time()
    assert store.measure(QUESTION, lambda: 1) == 1
    assert time.time() >= start + 0.2


def test_a_heartbeat_keeps_the_claim_of_a_long_measurement(path: Path) -> None:
    store = Store(path, lease_s=0.3)

    def slow() -> int:
        time.sleep(1.0)
        with sqlite3.connect(path) as database:
            (expires,) = database.execute("SELECT expires FROM claims").fetchone()
        assert expires > time.time()
        return 3

    assert store.measure(QUESTION, slow) == 3


@pytest.mark.parametrize(
    "content", [b"this is no database at all, but a text file" * 30, b"SQLite format 3\0" + bytes(200)]
)
def test_a_file_that_is_no_store_is_one_clear_line(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"store '.*evaluations.sqlite' is damaged|of another program"
    ) as caught:
        Store(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_damaged_page_is_one_clear_line(path: Path) -> None:
    store = Store(path)
    for i in range(200):
        store.put({"question": i}, "x" * 200)
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(UserError, match="is damaged"):
        list(Store(path).records())


def test_a_database_of_another_program_or_version_is_left_alone(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE notes (text)")
    with pytest.raises(UserError, match="of another program"):
        Store(other)
    Store(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="has version 99, this qsim reads 1"):
        Store(path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"its folder '.*nowhere' does not exist"):
        Store(tmp_path / "nowhere" / "x.sqlite")


def test_a_lock_that_is_not_released_is_reported(path: Path) -> None:
    store = Store(path, lock_timeout_s=0.1)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match=r"was locked by another process for more than 0\.1 s"):
        store.put(QUESTION, 1)
    blocker.rollback()
    assert store.put(QUESTION, 1) == 1
    assert json.loads(json.dumps(store.get(QUESTION))) == 1
