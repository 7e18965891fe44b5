"""A store of evaluations: what was measured once is never measured again, by this process or another.

An SQLite file in WAL mode. A question (model, data, plan, metric, arithmetic, ...) is any JSON value; its
sha256 in canonical form is the key, so the same question asked anywhere finds the same answer. Before it
computes, a process claims the question; others that ask meanwhile wait for the answer. A claim is a lease
kept alive by a heartbeat: when its process is killed the claim lapses, and nothing that was finished is lost
(every answer is one durable commit).
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qsim.errors import UserError

SCHEMA_VERSION = 1
APPLICATION_ID = 0x7153696D  # "qSim"
SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, question TEXT NOT NULL, answer TEXT NOT NULL, seconds REAL NOT NULL, finished REAL
    NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY, owner TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
"""
LONGEST_POLL_S = 0.5


class Store:
    """Answers to questions, shared by every process that opens the same file.

    lock_timeout_s: how long to wait for another process' write (milliseconds each) before a UserError says
    so. lease_s: how long a claim outlives its last heartbeat; a dead process of this machine is noticed at
    once. A file that is damaged, or of another program or version, raises UserError naming it.
    """

    def __init__(self, path: str | Path, *, lock_timeout_s: float = 30.0, lease_s: float = 60.0) -> None:
        self.path = Path(path)
        self.lock_timeout_s = lock_timeout_s
        self.lease_s = lease_s
        self._local = threading.local()
        with self._database():
            pass

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "lock_timeout_s": self.lock_timeout_s, "lease_s": self.lease_s}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    def get(self, question: Any, default: Any = None) -> Any:
        """The stored answer to a question, or `default`."""
        found = self._get(key_of(question))
        return default if found is None else json.loads(found)

    def put(self, question: Any, answer: Any, seconds: float = 0.0) -> Any:
        """Keep an answer unless there is one already; returns the answer that is kept."""
        key, text = key_of(question), _json(answer, "an answer", allow_nan=True)
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)",
                (key, canonical(question), text, seconds, time.time()),
            )
            database.execute("DELETE FROM claims WHERE key = ?", (key,))
            kept = database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()[0]
        return json.loads(kept)

    def measure(self, question: Any, function: Callable[[], Any]) -> Any:
        """The stored answer, or that of function(), which is called by one process at a time and then stored.

        The answer is returned as JSON gives it back (tuples are lists), whether it was stored or is new. An
        exception of `function` is raised here, nothing is stored, and another process may try.
        """
        key, poll_s = key_of(question), 0.01
        while (found := self._get(key)) is None:
            owner = uuid.uuid4().hex
            if self._claim(key, owner):
                return self._compute(question, key, owner, function)
            time.sleep(poll_s)
            poll_s = min(LONGEST_POLL_S, 1.5 * poll_s)
        return json.loads(found)

    def records(self) -> Iterator[tuple[Any, Any, float]]:
        """Every (question, answer, seconds), oldest first."""
        with self._database() as database:
            rows = database.execute(
                "SELECT question, answer, seconds FROM answers ORDER BY finished, key"
            ).fetchall()
        for question, answer, seconds in rows:
            yield json.loads(question), json.loads(answer), seconds

    def close(self) -> None:
        """Close this thread's connection; the next use opens another."""
        database = getattr(self._local, "database", None)
        if database is not None and self._local.pid == os.getpid():
            database.close()
        self._local.database = None

    def __contains__(self, question: Any) -> bool:
        return self._get(key_of(question)) is not None

    def __len__(self) -> int:
        with self._database() as database:
            return int(database.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    def _get(self, key: str) -> str | None:
        with self._database() as database:
            row = database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _claim(self, key: str, owner: str) -> bool:
        """Take the claim if it is free, lapsed or of a dead process, and the answer is not there yet."""
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            if database.execute("SELECT 1 FROM answers WHERE key = ?", (key,)).fetchone():
                return False
            held = database.execute("SELECT host, pid, expires FROM claims WHERE key = ?", (key,)).fetchone()
            if held and held[2] > time.time() and not _is_dead(held[0], held[1]):
                return False
            database.execute(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?)",
                (key, owner, socket.gethostname(), os.getpid(), time.time() + self.lease_s),
            )
        return True

    def _compute(self, question: Any, key: str, owner: str, function: Callable[[], Any]) -> Any:
        done = threading.Event()
        heartbeat = threading.Thread(target=self._keep_alive, args=(key, owner, done), daemon=True)
        heartbeat.start()
        start = time.perf_counter()
        try:
            return self.put(question, function(), time.perf_counter() - start)
        except BaseException:
            with self._database() as database:
                database.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (key, owner))
            raise
        finally:
            done.set()
            heartbeat.join()

    def _keep_alive(self, key: str, owner: str, done: threading.Event) -> None:
        while not done.wait(self.lease_s / 3):
            try:
                with self._database() as database:
                    expires = time.time() + self.lease_s
                    database.execute(
                        "UPDATE claims SET expires = ? WHERE key = ? AND owner = ?", (expires, key, owner)
                    )
            except UserError:  # busy or gone: the claim may lapse, the answer is still kept when it comes
                continue
        self.close()

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; what was begun inside is committed, or rolled back on an exception."""
        try:
            database = self._connection()
            try:
                yield database
            except BaseException:
                if database.in_transaction:
                    database.rollback()
                raise
            if database.in_transaction:
                database.commit()
        except sqlite3.Error as error:
            raise UserError(self._explain(error)) from error

    def _connection(self) -> sqlite3.Connection:
        # A connection must not cross a fork, nor a thread.
        database: sqlite3.Connection | None = getattr(self._local, "database", None)
        if database is None or self._local.pid != os.getpid():
            database = self._open()
            self._local.database, self._local.pid = database, os.getpid()
        return database

    def _open(self) -> sqlite3.Connection:
        if not self.path.parent.is_dir():
            raise UserError(f"store '{self.path}': its folder '{self.path.parent}' does not exist")
        database = sqlite3.connect(self.path, timeout=self.lock_timeout_s, isolation_level=None)
        try:
            database.execute(f"PRAGMA busy_timeout = {int(1000 * self.lock_timeout_s)}")
            database.execute("BEGIN")  # one snapshot: another process may be creating the tables
            application = database.execute("PRAGMA application_id").fetchone()[0]
            version = database.execute("PRAGMA user_version").fetchone()[0]
            empty = not database.execute("SELECT 1 FROM sqlite_master").fetchone()
            database.execute("COMMIT")
            if application == 0 and empty:
                self._create(database)
            elif application != APPLICATION_ID:
                raise UserError(
                    f"'{self.path}' is an SQLite file of another program, not a store of evaluations"
                )
            elif version != SCHEMA_VERSION:
                raise UserError(
                    f"store '{self.path}' has version {version}, this qsim reads {SCHEMA_VERSION}"
                )
            database.execute("PRAGMA synchronous = FULL")
        except BaseException:
            database.close()
            raise
        return database

    def _create(self, database: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self.lock_timeout_s
        while True:  # the switch to WAL needs the file for itself and does not wait by busy_timeout
            try:
                database.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        database.execute("BEGIN IMMEDIATE")  # two processes may create it at the same moment
        for statement in SCHEMA.strip().split(";\n"):
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        database.commit()

    def _explain(self, error: sqlite3.Error) -> str:
        if "locked" in str(error) or "busy" in str(error):
            return (
                f"store '{self.path}' was locked by another process for more than {self.lock_timeout_s:g} s"
            )
        if isinstance(error, sqlite3.OperationalError):
            return f"store '{self.path}' cannot be used: {error}"
        return f"store '{self.path}' is damaged ({error}): move it away to measure afresh, or restore a copy"


def canonical(question: Any) -> str:
    """The one JSON text of a question: sorted keys, no blanks, ASCII. Raises UserError for what JSON cannot
    hold.
    """
    return _json(question, "a question", allow_nan=False)


def key_of(question: Any) -> str:
    """sha256 of the canonical JSON, hexadecimal."""
    return hashlib.sha256(canonical(question).encode()).hexdigest()


def _json(value: Any, what: str, *, allow_nan: bool) -> str:
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=allow_nan
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} for the store must be plain JSON: {error}") from error


def _is_dead(host: str, pid: int) -> bool:
    """Whether a process of this machine is gone (of other machines nobody knows: the lease has to lapse)."""
    if host != socket.gethostname() or os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
