"""One bar over all stages of a job."""

from __future__ import annotations

from rich.console import Console

from searches.progress import JobProgress


def progress() -> JobProgress:
    return JobProgress(Console(quiet=True))


def test_steps_of_all_stages_are_counted_once() -> None:
    with progress() as bar:
        bar.expect({"sensitivities": 5, "plans": 10})
        assert bar.steps == (0, 15)
        assert list(bar.track(range(5), "sensitivities", 5)) == [0, 1, 2, 3, 4]
        assert bar.steps == (5, 15)
        list(bar.track(range(12), "plans", 12))  # more than was expected
        assert bar.steps == (17, 17)


def test_a_stage_inside_another_does_not_count() -> None:
    with progress() as bar:
        for _ in bar.track(range(2), "plans", 2):
            list(bar.track(range(30), "tuning layers", 30))
        assert bar.steps == (2, 2)


def test_a_stage_that_ends_early_leaves_nothing_to_wait_for() -> None:
    with progress() as bar:
        for item in bar.track(range(8), "steps down", 8):
            if item == 2:
                break
        assert bar.steps[0] == bar.steps[1] or bar.steps == (2, 2)
