"""One live bar over a whole job: what is done, what is under way, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class JobProgress:
    """`with JobProgress() as progress: ... for item in progress.track(items, "sensitivities", 120): ...`

    The bar counts the steps of all stages: those announced by `expect`, corrected as each stage says its own total.
    A stage inside another (layers tuned for one plan) shows in words only. Nothing moves where stderr is no terminal.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=0)
        self._expected: dict[str, int] = {}
        self._stages: list[str] = []

    def __enter__(self) -> JobProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def steps(self) -> tuple[int, int]:
        """(done, known so far)."""
        task = self._bar.tasks[self._task]
        return int(task.completed), int(task.total or 0)

    def expect(self, stages: Mapping[str, int]) -> None:
        """Steps of stages to come, by their descriptions."""
        for description, count in stages.items():
            self._expected[description] = self._expected.get(description, 0) + count
            self._grow(count)

    def track(self, items: Iterable[Any], description: str, total: int) -> Iterator[Any]:
        """The items, each counted when the next one is asked for."""
        is_outer = not self._stages
        if is_outer:
            self._grow(total - self._expected.pop(description, 0))
        self._stages.append(description)
        done = 0
        try:
            for number, item in enumerate(items, 1):
                self._describe(number, total)
                yield item
                if is_outer:
                    done += 1
                    self._bar.advance(self._task)
        finally:
            self._stages.remove(description)
            if is_outer:  # a stage that ended early leaves nothing to wait for
                self._grow(done - total)

    def _grow(self, count: int) -> None:
        self._bar.update(self._task, total=(self._bar.tasks[self._task].total or 0) + count)

    def _describe(self, number: int, total: int) -> None:
        self._bar.update(self._task, description=f"{': '.join(self._stages)} {number}/{total}")
