"""Targets: the table's columns and units, totals, what formats change and what they must not, users' mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hwmodels
from hwmodels.asic.array import sram_j_per_bit
from hwmodels.asic.dataflow import systolic_cycles
from hwmodels.cost import BY_NAME
from hwmodels.datapath import accumulator, block_end_units, operand, output_units
from hwmodels.fpga.elements import Circuits, packed_products
from hwmodels.fpga.fit_device import fastest_within_device
from hwmodels.fpga.folding import Foldings, fold
from hwmodels.fpga.memory import place
from hwmodels.fpga.streaming import block_end_count
from hwmodels.pricing import price
from hwmodels.units.carry import slices_of_product
from hwmodels.workload import shape_of
from qsim import parse
from qsim.errors import UserError
from qsim.graph import Layer

INT8 = parse("int8@tensor:float32")
SHIPPED = (
    "fpga_zcu104",
    "fpga_pynq_z2",
    "fpga_ultra96",
    "fpga_u250",
    "fpga_ice40_hx8k",
    "asic_45nm",
    "mcu_cortex_m4",
    "mcu_cortex_m7",
)


def conv(name: str, size: int, ci: int, co: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> Layer:
    out = size // stride
    reduction = kernel * kernel * ci // groups
    return Layer(
        name=name,
        kind="depthwise" if groups == ci > 1 else "conv",
        input=f"{name}_in",
        weights=f"{name}_w",
        bias=None,
        output=f"{name}_out",
        macs=out * out * co * reduction,
        weight_axis=0,
        reduction_axes=(1, 2, 3),
        reduction_length=reduction,
        input_shape=(ci, size, size),
        output_shape=(co, out, out),
        weight_shape=(co, ci // groups, kernel, kernel),
        stride=(stride, stride),
        kernel=(kernel, kernel),
        groups=groups,
        parameters=co * reduction,
    )


def linear(name: str, inputs: int, outputs: int) -> Layer:
    return Layer(
        name=name,
        kind="linear",
        input=f"{name}_in",
        weights=f"{name}_w",
        bias=None,
        output=f"{name}_out",
        macs=inputs * outputs,
        weight_axis=0,
        reduction_axes=(1,),
        reduction_length=inputs,
        input_shape=(inputs,),
        output_shape=(outputs,),
        weight_shape=(outputs, inputs),
        parameters=inputs * outputs,
    )


RESNET8 = (  # MLPerf Tiny ic01 (../shared/golden/hw/mlperf_tiny_layers.csv): 12.5 M products
    conv("c1", 32, 3, 16),
    conv("b1a", 32, 16, 16),
    conv("b1b", 32, 16, 16),
    conv("b2a", 32, 16, 32, stride=2),
    conv("b2b", 16, 32, 32),
    conv("b2s", 32, 16, 32, kernel=1, stride=2),
    conv("b3a", 16, 32, 64, stride=2),
    conv("b3b", 8, 64, 64),
    conv("b3s", 16, 32, 64, kernel=1, stride=2),
    linear("fc", 64, 10),
)


def costs_of(target: hwmodels.Target, spec: str, layers: tuple[Layer, ...] = RESNET8) -> pd.DataFrame:
    specs, n = [parse(spec)] * len(layers), len(layers)
    return target.layer_costs(layers, specs, specs, specs, [None] * n)


def costs(
    target: str | dict, spec: str | None, layers: tuple[Layer, ...] = RESNET8, inputs: str | None = "same"
):
    weights = parse(spec) if spec else None
    activations = weights if inputs == "same" else parse(inputs) if inputs else None
    n = len(layers)
    loaded = hwmodels.load_target(target)
    table = loaded.layer_costs(layers, [weights] * n, [activations] * n, [activations] * n, [None] * n)
    return table, loaded.total(table)


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("spec", ["int8@tensor:float32", "e4m3fn@tensor:float32", "mxfp4", "fixed8.2", None])
def test_every_target_prices_every_kind_of_format(name: str, spec: str | None) -> None:
    table, total = costs(name, spec)
    target = hwmodels.load_target(name)
    assert len(table) == len(RESNET8)
    bases = {column.removesuffix("_low90").removesuffix("_high90") for column in table.columns}
    assert bases <= set(BY_NAME)
    assert set(target.objectives) <= set(total.index) & (set(table.columns) | {"latency_s"})
    assert np.isfinite(table.to_numpy()).all() and (table.to_numpy() >= 0).all()
    for column in table.columns:
        if column.endswith("_low90"):
            base = column.removesuffix("_low90")
            assert (table[column] <= table[base] * (1 + 1e-9)).all(), column
            assert (table[base] <= table[f"{base}_high90"] * (1 + 1e-9)).all(), column
    assert table["macs"].sum() == total["macs"] == 12_501_632


@pytest.mark.parametrize("name", SHIPPED)
def test_narrow_integers_cost_less_than_wide_ones(name: str) -> None:
    totals = [costs(name, f"int{bits}@tensor:float32")[1] for bits in (8, 4)]
    column = {"fpga": "lut", "asic": "area_um2", "mcu_": "flash_bytes"}[name[:4]]
    assert totals[1][column] < totals[0][column]
    assert totals[1]["weight_bytes"] < totals[0]["weight_bytes"]
    if not name.startswith("mcu"):
        assert totals[1]["energy_j"] < totals[0]["energy_j"]


def test_sub_byte_weights_do_not_speed_up_a_microcontroller() -> None:
    """Measured: CMSIS-NN's s8 x s4 kernels execute more instructions than s8 x s8 on a Cortex-M4."""
    fast, slow = (
        costs("mcu_cortex_m4", f"int{b}@tensor:float32", inputs="int8@tensor:float32")[1] for b in (8, 4)
    )
    assert slow["instructions"] > fast["instructions"]
    assert slow["sram_bytes"] == fast["sram_bytes"]


def test_a_microcontroller_matches_published_latency() -> None:
    """X-CUBE-AI on STM32L4R5: 165 to 227 ms for ResNet-8 over MLPerf Tiny v1.0 to v1.3."""
    total = costs("mcu_cortex_m4", "int8@tensor:float32")[1]
    assert 0.165 / 1.2 < total["latency_s"] < 0.227 * 1.2
    assert total["latency_s_low90"] < 0.165 and total["latency_s_high90"] > 0.227
    assert 7e-3 / 1.5 < total["energy_j"] < 17.8e-3
    assert total["flash_bytes"] == pytest.approx(77_360 + 314 * 4 + 10 * 4, rel=0.01)
    assert total["sram_bytes"] == 32_768


def test_formats_without_a_kernel_are_flagged() -> None:
    table, total = costs("mcu_cortex_m4", "mxfp4")
    assert total["has_kernel"] == 0
    assert (table["latency_s_high90"] / table["latency_s_low90"] > 4).all()
    assert costs("mcu_cortex_m4", "int8@tensor:float32")[1]["has_kernel"] == 1


def test_streaming_totals_lie_where_finn_and_hls4ml_designs_do() -> None:
    """hls4ml's ResNet for MLPerf Tiny v0.7 on a Pynq-Z2 took most of 53 k LUTs at about 36 samples a second."""
    table, total = costs("fpga_pynq_z2", "int8@tensor:float32")
    assert 5_000 < total["lut"] < 53_200
    assert total["throughput_hz"] >= 100
    assert total["cycles"] == table["cycles"].max()
    assert table["cycles"].max() / 100e6 < total["latency_s"] < table["cycles"].sum() / 100e6 + 1e-9
    assert total["bram18k"] * 18 * 1024 >= 77_360 * 8 * 0.5


def test_luts_depend_on_the_format_as_the_circuits_do() -> None:
    """On LUTs, exact accumulation of E5M2 is dearer than of E4M3, and a float accumulator dearer still."""
    layers = (linear("fc", 256, 64),)
    lut = {}
    for spec, acc in (
        ("e4m3fn", None),
        ("e5m2", None),
        ("e4m3fn", "float32"),
        ("int8", None),
        ("int4", None),
    ):
        parsed = parse(f"{spec}@tensor:float32")
        target = hwmodels.load_target("fpga_zcu104_array")
        table = target.layer_costs(layers, [parsed], [parsed], [parsed], [parse(acc) if acc else None])
        lut[spec, acc] = table["lut"].iloc[0]
    assert lut["int4", None] < lut["int8", None] < lut["e4m3fn", "float32"]
    assert lut["e4m3fn", None] < lut["e5m2", None] < lut["e4m3fn", "float32"]


def test_dsp_packing_takes_two_int8_or_four_int4_products() -> None:
    base = {"name": "x", "kind": "fpga_array", "device": "d", "source": "s", "node_nm": 16, "supply_v": 0.85}
    base |= {"resources": {"lut": 1e5}, "static_power_w": 1, "clock_hz": 2e8, "rows": 16, "columns": 16}
    dsp = {
        bits: costs(base | {"multipliers": "dsp"}, f"int{bits}@tensor:float32")[1]["dsp"]
        for bits in (16, 8, 4)
    }
    assert dsp == {16: 256, 8: 128, 4: 64}
    auto = costs(base | {"multipliers": "auto"}, "int4@tensor:float32")[1]
    assert auto["dsp"] == 0
    luts = [costs(base | {"multipliers": m}, "int8@tensor:float32")[1]["lut"] for m in ("lut", "dsp")]
    assert luts[1] < luts[0]
    older = base | {"multipliers": "dsp", "dsp_long_port_bits": 25}
    dsp = {bits: costs(older, f"int{bits}@tensor:float32")[1]["dsp"] for bits in (16, 8, 4)}
    assert dsp == {16: 256, 8: 256, 4: 128}, "a DSP48E1 has no room for two int8 products"


@pytest.mark.parametrize(
    ("weight", "inputs", "elements", "lanes", "slices"),
    [
        (8, 8, 4, 3, 2 * 3),
        (8, 8, 3, 3, 2 * 3),  # two elements share a slice, the third has its own
        (8, 8, 1, 3, 3),  # products of one element have no operand in common
        (4, 4, 8, 2, 2 * 2),
        (4, 8, 4, 1, 2),
        (12, 8, 4, 1, 4),
        (24, 16, 2, 1, 2),  # 27 x 18 bits are one slice
        (32, 16, 2, 1, 4),
    ],
)
def test_slices_by_hand(weight: int, inputs: int, elements: int, lanes: int, slices: int) -> None:
    facts = (slices_of_product(weight, inputs), packed_products(weight, inputs, 27))
    circuits = Circuits(np.zeros((3, 3, 1)), np.zeros(1), *np.array(facts, dtype=np.float64)[:, None])
    assert circuits.slices(lanes, elements) == slices


def test_a_streaming_layer_with_slices_has_them_for_every_multiplier() -> None:
    zcu104 = hwmodels.load_target("fpga_zcu104")
    for rate in (100.0, 2000.0, 20000.0):
        design = replace(zcu104.design, multipliers="dsp", throughput_hz=rate)
        table = costs_of(replace(zcu104, design=design), "int8@tensor:float32")
        for row, layer in zip(table.to_dict("records"), RESNET8):
            folding = fold(shape_of(layer), int(design.clock_hz / rate))
            assert row["dsp"] == folding.simd * -(-folding.pe // 2)


def test_block_scales_are_stored_once_a_block() -> None:
    layers = (conv("c", 8, 64, 64),)
    table, _ = costs("asic_45nm", "mxfp4", layers)
    assert table["weight_bytes"].iloc[0] == 64 * 64 * 9 * (4 + 8 / 32) / 8


def test_float32_is_the_price_of_not_quantizing() -> None:
    for name in ("fpga_zcu104", "asic_45nm", "mcu_cortex_m4"):
        assert costs(name, None)[1]["energy_j"] > costs(name, "int8@tensor:float32")[1]["energy_j"]
        assert costs(name, None)[1]["weight_bytes"] == 77_360 * 4


def test_rows_come_in_the_order_asked_for_and_repeat() -> None:
    target = hwmodels.load_target("asic_45nm")
    int4 = parse("int4@tensor:float32")
    layers = [RESNET8[0], RESNET8[1], RESNET8[0]]
    table = target.layer_costs(layers, [INT8, int4, INT8], [INT8] * 3, [INT8] * 3, [None] * 3)
    single = target.layer_costs([RESNET8[1]], [parse("int4@tensor:float32")], [INT8], [INT8], [None])
    assert table.iloc[0].equals(table.iloc[2])
    assert table.iloc[1].tolist() == single.iloc[0].tolist()


def test_empty_requests_give_an_empty_table() -> None:
    for name in ("fpga_zcu104", "asic_45nm", "mcu_cortex_m4"):
        target = hwmodels.load_target(name)
        table = target.layer_costs([], [], [], [], [])
        assert table.empty and isinstance(target.total(table), pd.Series)


def test_sums_maxima_and_minima_follow_the_published_rules() -> None:
    table, total = costs("asic_45nm", "int8@tensor:float32")
    assert total["energy_j"] == pytest.approx(table["energy_j"].sum())
    assert total["area_um2"] == table["area_um2"].max()
    assert total["fmax_hz"] == table["fmax_hz"].min()
    assert total["latency_s"] == pytest.approx(table["latency_s"].sum())
    assert total["power_w"] == pytest.approx(total["energy_j"] / total["latency_s"])
    parts = table[["energy_compute_j", "energy_sram_j", "energy_dram_j"]].sum(axis=1)
    assert np.allclose(parts, table["energy_j"])


def test_scalesim_cycles_are_exact() -> None:
    """SCALE-Sim 3.0.0, 16 x 16 array (../shared/golden/hw/dataflow_anchors.csv)."""
    measured = {
        ("ws", 196, 128, 128): 15487,
        ("ws", 1, 256, 512): 24063,
        ("ws", 64, 256, 128): 14079,
        ("os", 196, 128, 128): 16431,
        ("os", 64, 256, 128): 9151,
    }
    for (dataflow, vectors, reduction, outputs), cycles in measured.items():
        assert systolic_cycles(dataflow, vectors, reduction, outputs, 16, 16) == cycles
    with pytest.raises(UserError, match="dataflow must be ws, os or is"):
        systolic_cycles("rs", 1, 1, 1, 16, 16)


def test_sram_energy_meets_the_published_sizes() -> None:
    assert [sram_j_per_bit(kb) * 64e12 for kb in (8, 32, 1024)] == pytest.approx([10, 20, 100])
    assert sram_j_per_bit(64) > sram_j_per_bit(32)


def test_folding_meets_its_budget_with_the_fewest_multipliers() -> None:
    shape = shape_of(RESNET8[1])
    for budget in (1, 10_000, 200_000, 10**9):
        chosen = fold(shape, budget)
        assert shape.outputs % chosen.pe == 0 and shape.reduction % chosen.simd == 0
        assert chosen.cycles * chosen.pe * chosen.simd == shape.macs
        if budget > 1_024:
            assert chosen.cycles <= budget
    assert fold(shape, 10**9).pe * fold(shape, 10**9).simd == 1


def test_memories_by_hand() -> None:
    depths, widths = np.array([64.0, 512.0, 1024.0, 4096.0, 0.0]), np.array([10.0, 36.0, 36.0, 72.0, 8.0])
    assert np.transpose(place(depths, widths, False)).tolist() == [
        *([10, 0, 0], [0, 1, 0], [0, 2, 0], [0, 16, 0], [0, 0, 0])
    ]
    assert np.transpose(place(depths, widths, True))[3:].tolist() == [[0, 0, 1], [0, 0, 0]]


def test_accumulators_are_exact_where_that_is_practical() -> None:
    def width(w: str, a: str, k: int) -> tuple[int, int]:
        acc = accumulator(None, operand(parse(w)), operand(parse(a)), k)
        return acc.bits, acc.exponent

    assert width("int8", "int8", 256) == (24, 0)
    assert width("e2m1fn", "e2m1fn", 1) == (9, 0)  # golden: 17 bits with 8 guard bits
    assert width("e4m3fn", "e4m3fn", 1) == (37, 0)
    assert width("bfloat16", "bfloat16", 16) == (32, 8)
    assert width("mxfp4", "mxfp4", 64) == (32, 8)


@pytest.mark.parametrize(
    "change,message",
    [
        ({"kind": "gpu"}, "kind must be one of"),
        ({"colums": 16}, "unknown key 'colums'; did you mean columns"),
        ({"rows": "many"}, "rows must be a finite number"),
        ({"rows": 1.5}, "rows must be a whole number"),
        ({"rows": 0}, "rows must be above 0"),
        ({"clock_hz": float("nan")}, "clock_hz must be a finite number"),
        ({"dataflow": "rs"}, "dataflow must be one of ws, os, is"),
        ({"name": None}, "key name is missing"),
    ],
)
def test_mistakes_in_a_hardware_mapping_are_one_line(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        hwmodels.load_target({"name": "mine", "kind": "asic_array"} | change)
    assert "\n" not in str(caught.value)


def test_mistakes_in_names_and_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean fpga_zcu104"):
        hwmodels.load_target("fpga_zcu14")
    with pytest.raises(UserError, match="no such hardware file"):
        hwmodels.load_target(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1,\nb: 2")
    with pytest.raises(UserError, match="not valid YAML") as caught:
        hwmodels.load_target(broken)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="key device is missing"):
        hwmodels.load_target({"name": "x", "kind": "fpga_streaming"})
    with pytest.raises(UserError, match="no MLPerf Tiny results for stack 'none'"):
        costs(
            {
                "name": "x",
                "kind": "mcu",
                "device": "d",
                "source": "s",
                "core": "Cortex-M4",
                "stack": "none",
                "clock_hz": 1e8,
                "flash_kb": 1,
                "sram_kb": 1,
            },
            "int8@tensor:float32",
        )
    with pytest.raises(UserError, match="sequences of one length"):
        hwmodels.load_target("asic_45nm").layer_costs(RESNET8, [INT8], [INT8], [INT8], [None])


def test_every_shipped_file_says_what_it_is(project: Path) -> None:
    files = sorted((project / "configs" / "hardware").glob("*.yaml"))
    assert {file.stem for file in files} == set(hwmodels.known_targets()) >= set(SHIPPED)
    for file in files:
        assert file.read_text().startswith("# ")
        assert hwmodels.load_target(file).name == file.stem


KWS_W3A3 = tuple(
    linear(f"fc{i}", *shape) for i, shape in enumerate(((490, 256), (256, 256), (256, 256), (256, 12)))
)


def test_finn_s_published_keyword_spotter_lies_on_our_folding_curve() -> None:
    """FINN's KWS-W3A3 for MLPerf Tiny v0.7 ran 57,268 inferences a second on a Pynq-Z2 (../shared/research/zoo.md,
    section 4), between the slowest design and the fastest one that we say fits the device."""
    spec = parse("int3@tensor:float32")
    base = hwmodels.load_target("fpga_pynq_z2")
    columns = ([spec] * 4, [spec] * 4, [spec] * 4, [None] * 4)
    fastest = fastest_within_device(base, KWS_W3A3, *columns)
    best = fastest.total(fastest.layer_costs(KWS_W3A3, *columns))
    published = replace(base, design=replace(base.design, throughput_hz=57_268.0))
    total = published.total(published.layer_costs(KWS_W3A3, *columns))
    print(
        f"\nat 57,268/s {total['lut']:.0f} LUT; fastest that fits: {best['throughput_hz']:.0f}/s, {best['lut']:.0f} LUT"
    )
    assert best["throughput_hz"] > 57_268
    assert total["throughput_hz"] >= 57_268 and total["lut"] < 0.8 * 53_200
    assert total["lut"] < best["lut"] <= 0.8 * 53_200


def test_a_network_too_large_for_a_device_is_one_clear_error() -> None:
    spec = parse("int8@tensor:float32")
    with pytest.raises(UserError, match="does not fit iCE40HX8K even at 1 sample a second"):
        columns = ([spec] * 10, [spec] * 10, [spec] * 10, [None] * 10)
        fastest_within_device(hwmodels.load_target("fpga_ice40_hx8k"), RESNET8, *columns)
    with pytest.raises(UserError, match="only a fpga_streaming target"):
        fastest_within_device(hwmodels.load_target("asic_45nm"), RESNET8[:1], [spec], [spec], [spec], [None])


def test_what_ends_a_block_is_counted_whole() -> None:
    """A folded layer of one processing element still has a converter and a float adder of its own."""
    w = operand(parse("mxfp4"))
    ends = block_end_units(w, w, 32)
    assert [unit.family for _, unit in ends] == ["int_to_fp", "mac_add_fp"]
    assert block_end_units(operand(INT8), operand(INT8), 0) == ()
    pe = np.array([1.0, 3.0, 16.0])
    assert block_end_count(np.full(3, 32.0), Foldings(pe, np.full(3, 12.0), pe)).tolist() == [1, 2, 6]
    table, _ = costs("fpga_zcu104", "mxfp4", (RESNET8[1],))
    assert table["lut"].iloc[0] > price(("lut",), ends)[0]


def test_a_float_requantizer_multiplies_by_its_scale_before_it_rounds() -> None:
    w = operand(parse("e4m3fn@channel:float32"))
    acc = accumulator(None, w, w, 64)
    families = [unit.family for _, unit in output_units(w, w, acc, w)]
    assert families == ["int_to_fp", "fp_mul", "cvt_fp"]
    assert output_units(w, w, acc, w)[1][1].mo == 3 + 8
    powers = operand(parse("e4m3fn"))
    assert [unit.family for _, unit in output_units(powers, powers, acc, powers)] == ["int_to_fp"]
