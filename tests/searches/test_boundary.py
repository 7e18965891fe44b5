"""Which points of a front are measured."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from searches.boundary import next_index, spread_indices


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.data())
def test_every_point_is_measured_once_and_the_boundary_is_found(
    good: list[bool], data: st.DataObject
) -> None:
    accepted: dict[int, bool] = {}
    start = data.draw(st.integers(0, len(good) - 1))
    accepted[start] = good[start]
    while len(accepted) < len(good):
        index = next_index(accepted, len(good))
        assert index not in accepted and 0 <= index < len(good)
        accepted[index] = good[index]


def test_a_monotone_front_needs_a_logarithm_of_its_points() -> None:
    good = [index >= 700 for index in range(1000)]
    accepted = {0: False, 999: True}
    for _ in range(10):
        index = next_index(accepted, 1000)
        accepted[index] = good[index]
    assert accepted.get(700) and accepted.get(699) is False


def test_spread_holds_both_ends() -> None:
    indices = spread_indices([float(cost) for cost in range(1, 101)], 6)
    assert indices[0] == 0 and indices[-1] == 99 and len(indices) <= 6
    assert spread_indices([1.0, 2.0], 6) == [0, 1]
