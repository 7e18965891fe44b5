"""What every family of golden vectors uses: a file, a comparison, and which function checks which file.

A family module (any other .py file here) has

    FORMS    {pattern of relative file names: function(GoldenFile) -> Iterator[Comparison]}
    CONTEXT  patterns of files that come with others and hold nothing to check

Several modules may claim one file; each reads the arrays it knows. An array that nobody reads, and a file
that nobody claims, fail the run.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """Our result against the golden one: how many numbers, how many differ, how many of those README.md
    allows.
    """

    what: str
    vectors: int
    differing: int = 0
    allowed: int = 0
    note: str = ""


@dataclass
class GoldenFile:
    """One file of a golden folder. Arrays are read by name, and what was read is remembered."""

    folder: Path
    name: str
    read: set[str] = field(default_factory=set)

    @property
    def path(self) -> Path:
        return self.folder / self.name

    @property
    def family(self) -> str:
        return self.name.partition("/")[0]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    @cached_property
    def meta(self) -> dict[str, Any]:
        return json.loads(str(self.arrays["__meta__"]))

    @property
    def names(self) -> list[str]:
        return [name for name in self.arrays if name != "__meta__"]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> np.ndarray:
        self.read.add(name)
        return self.arrays[name]

    def skip(self, *names: str) -> None:
        """Say that these arrays restate others and need no check of their own."""
        self.read.update(names)

    @property
    def unread(self) -> list[str]:
        if self.path.suffix != ".npz":
            return []
        return [name for name in self.names if name not in self.read]


def compare(what: str, ours: Any, golden: Any, allow: Any = False, signs: bool = True) -> Comparison:
    """Bit for bit: NaN equals NaN, -0 differs from 0 (unless `signs` is False). `allow` masks allowed
    differences.
    """
    ours, golden = np.broadcast_arrays(np.asarray(ours), np.asarray(golden))
    same = ours == golden
    if ours.dtype.kind == "f":
        same = (same & ((np.signbit(ours) == np.signbit(golden)) | (not signs))) | (
            np.isnan(ours) & np.isnan(golden)
        )
    differs, allowed = ~same, ~same & np.broadcast_to(allow, same.shape)
    wrong = differs & ~allowed
    note = ""
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        note = f"first at {first}: ours {ours[first]!r}, golden {golden[first]!r}"
    return Comparison(what, int(same.size), int(wrong.sum()), int(allowed.sum()), note)


Checker = Callable[[GoldenFile], Iterator[Comparison]]


@cache
def families() -> tuple[list[tuple[str, Checker]], list[str]]:
    """(pattern, checker) of all family modules, and the patterns of context files."""
    forms: list[tuple[str, Checker]] = []
    context: list[str] = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem in ("harness", "conftest", "__init__") or path.stem.startswith("test_"):
            continue
        module = importlib.import_module(f"tests.golden.{path.stem}")
        forms += module.FORMS.items()
        context += getattr(module, "CONTEXT", ())
    return forms, context


def check(file: GoldenFile) -> list[Comparison]:
    """All comparisons of a file. Raises LookupError for a file, or an array in it, that no family module
    knows.
    """
    forms, context = families()
    claims = [checker for pattern, checker in forms if fnmatch(file.name, pattern)]
    if not claims and any(fnmatch(file.name, pattern) for pattern in context):
        return []
    if not claims:
        raise LookupError(f"{file.name}: no family module knows this form of file")
    try:
        results = [result for checker in claims for result in checker(file)]
    except KeyError as error:
        raise LookupError(f"{file.name}: unknown name {error}") from error
    if file.unread:
        raise LookupError(f"{file.name}: no family module knows the arrays {', '.join(file.unread)}")
    if not results:
        raise LookupError(f"{file.name}: nothing in it was checked")
    return results


def listed_files(folder: Path, only: Iterable[str] = ()) -> list[str]:
    """The files that folder/index.json lists, of the families `only` where some are named.

    Raises LookupError for a folder without index, an empty one, and a family that it does not have.
    """
    index = folder / "index.json"
    if not index.is_file():
        raise LookupError(f"{index} does not exist: a golden folder lists its files there")
    names = sorted(json.loads(index.read_text())["files"])
    wanted = set(only)
    missing = wanted - {name.partition("/")[0] for name in names}
    if missing:
        raise LookupError(f"{index} lists no file of family {', '.join(sorted(missing))}")
    chosen = [name for name in names if not wanted or name.partition("/")[0] in wanted]
    if not chosen:
        raise LookupError(f"{index} lists no file")
    return chosen
