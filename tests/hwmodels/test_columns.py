"""Pricing in columns: what pairs cost together is what each costs alone, in any order; grouping and folding."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwmodels
from hwmodels.columns import LARGEST_KEY, flattened, group, intern, once, sides
from hwmodels.fpga.folding import divisors, fold
from hwmodels.workload import make_workload, shape_of
from qsim import parse
from qsim.errors import UserError
from tests.hwmodels.test_targets import INT8, RESNET8, SHIPPED, conv, linear

TARGETS = {name: hwmodels.load_target(name) for name in (*SHIPPED, "fpga_zcu104_array")}
LAYERS = (*RESNET8, conv("dw", 16, 32, 32, groups=32), conv("k5", 28, 1, 6, kernel=5), linear("one", 1, 1))
SPECS = (
    *(parse(f"int{bits}@tensor:float32") for bits in (2, 4, 8)),
    *map(
        parse, ("uint4@channel:e8m0", "fixed8.2", "e4m3fn", "mxfp4", "int4@block16:float16", "apot2x2", "nf4")
    ),
    None,
)
ACCUMULATORS = (None, parse("int32"), parse("float32"))
PAIR = st.tuples(
    *(st.sampled_from(LAYERS), st.sampled_from(SPECS), st.sampled_from(SPECS)),
    *(st.sampled_from(SPECS), st.sampled_from(ACCUMULATORS)),
)


def table(target: hwmodels.Target, pairs: list[tuple]) -> np.ndarray:
    return target.layer_costs(*(list(column) for column in zip(*pairs))).to_numpy()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(TARGETS)), st.lists(PAIR, min_size=1, max_size=12), st.randoms())
def test_pairs_cost_together_what_each_costs_alone(name: str, pairs: list[tuple], random) -> None:
    together = table(TARGETS[name], pairs)
    assert np.array_equal(together, np.concatenate([table(TARGETS[name], [pair]) for pair in pairs]))
    order = list(range(len(pairs)))
    random.shuffle(order)
    assert np.array_equal(together[order], table(TARGETS[name], [pairs[place] for place in order]))
    assert np.array_equal(
        np.repeat(together, 3, axis=0), table(TARGETS[name], [p for p in pairs for _ in "abc"])
    )


def test_equal_specs_are_one_pair_whoever_made_them() -> None:
    own = [parse(str(INT8)) for _ in range(50)]
    workload = make_workload([RESNET8[1]] * 50, own, own, own, [None] * 50)
    assert len(workload.pairs.shape) == len(workload.pairs.products) == 1 and not workload.index.any()


def test_accumulators_differ_by_length_of_the_sum() -> None:
    layers = [linear(f"fc{k}", k, 8) for k in (100, 128, 129)]
    pairs = make_workload(layers, *([INT8] * 3,) * 3, [None] * 3).pairs
    assert pairs.accumulator_bits.tolist() == [23, 23, 24]


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=60))
def test_groups_are_the_different_combinations(rows: list[tuple[int, ...]]) -> None:
    first, index = group(*np.array(rows).T)
    assert [rows[row] for row in first] == list(dict.fromkeys(rows))
    assert [rows[first[place]] for place in index] == rows
    calls: list[int] = []
    values = once(lambda row: calls.append(row) or rows[row], *np.array(rows).T)
    assert values.T.tolist() == [list(row) for row in rows] and len(calls) == len(set(rows))


def test_groups_of_large_numbers_do_not_collide() -> None:
    large = np.array([0, LARGEST_KEY // 8, 1, LARGEST_KEY // 8, 0])
    _, index = group(large, large[::-1], large, np.arange(5) % 2)
    assert len(set(index.tolist())) == len(set(zip(large, large[::-1], large, np.arange(5) % 2)))


def test_interning_converts_an_object_once_and_merges_equal_values() -> None:
    items = ["8", "08", "9", "8"]
    numbers, values = intern(items, int)
    assert numbers.tolist() == [0, 0, 1, 0] and values == (8, 9)


def test_intervals_become_columns() -> None:
    columns = flattened({"lut": np.array([8.0]) * sides(2.0), "dsp": np.ones(1)})
    assert {name: float(column[0]) for name, column in columns.items()} == {
        "lut": 8.0,
        "lut_low90": 4.0,
        "lut_high90": 16.0,
        "dsp": 1.0,
    }


@given(st.integers(1, 96), st.integers(1, 96), st.integers(1, 20_000))
def test_folding_is_the_best_of_all_there_are(inputs: int, outputs: int, budget: int) -> None:
    shape = shape_of(linear("fc", inputs, outputs))
    allowed = [
        (pe * simd, pe, simd)
        for pe, simd in product(divisors(outputs), divisors(inputs))
        if (outputs // pe) * (inputs // simd) <= budget
    ]
    chosen = fold(shape, budget)
    assert (chosen.pe * chosen.simd, chosen.pe, chosen.simd) == min(allowed)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_columns_of_different_lengths_are_one_clear_error(name: str) -> None:
    for layers, specs in (([], [INT8]), (list(RESNET8[:1]), [])):
        with pytest.raises(UserError, match="sequences of one length"):
            TARGETS[name].layer_costs(layers, specs, specs, specs, specs)
