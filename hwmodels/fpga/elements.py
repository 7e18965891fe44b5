"""What one processing element and one output take of an FPGA, priced once for each different circuit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from hwmodels.columns import Costs, Floats, intern, once
from hwmodels.datapath import (
    Accumulator,
    Operand,
    Parts,
    Product,
    block_end_units,
    dot_units,
    lane_units,
    output_units,
)
from hwmodels.fpga.device import Fpga
from hwmodels.pricing import LOGIC, price
from hwmodels.units.carry import DSP_MIN_PRODUCT_BITS, slices_of_product
from hwmodels.units.unit import Unit
from hwmodels.workload import Pairs

DSP_PRODUCTS_INT8 = 2
DSP_PRODUCTS_INT4 = 4
"""Products that share a weight or activation packed into one DSP48E2 (AMD WP486 for int8, WP521 for int4)."""
PACKED_PORT_BITS = 27
LOGIC_AND_ENERGY = (*LOGIC, "energy_fj")
CACHED_CIRCUITS = 1 << 18
NO_REGISTER = Accumulator(0)
"""Of no bits, hence without cost: stands for a register that is priced apart."""


@dataclass(frozen=True)
class Circuits:
    """Prices of one circuit a pair.

    logic: [3 of LOGIC, 3 of estimate, low90, high90, pairs]. energy_fj: [pairs], of one cycle in standard cells.
    slices_per_lane: DSP slices of one multiplier, which `sharing` processing elements with the same activation use
    together; both [pairs].
    """

    logic: Floats
    energy_fj: Floats
    slices_per_lane: Floats
    sharing: Floats

    def slices(self, lanes: Floats | float, elements: Floats | float) -> Floats:
        """DSP slices of `elements` processing elements of `lanes` products each."""
        count: Floats = self.slices_per_lane * lanes * np.ceil(elements / self.sharing)
        return count


def by_name(logic: Floats) -> Costs:
    """[3 of LOGIC, 3, pairs] as one entry a name."""
    return dict(zip(LOGIC, logic))


def price_elements(pairs: Pairs, fpga: Fpga, simd: Floats) -> Circuits:
    """Processing elements of `simd` products a cycle, without what follows a block of shared scales; energy with it.

    The exact sum of several products has a register of its own, which is priced apart: sums of different lengths then
    share all other circuits.
    """
    facts = (fpga.multipliers, fpga.dsp_long_port_bits, fpga.calibration)
    bare, bares = intern(pairs.products, lambda product: replace(product, acc=NO_REGISTER))
    products = (*pairs.products, *bares)
    is_exact = np.array([not (product.acc.is_float or product.block) for product in pairs.products])
    apart = (simd > 1) & is_exact[pairs.product]
    place = np.where(apart, len(pairs.products) + bare[pairs.product], pairs.product)
    values = once(lambda row: _element(products[place[row]], int(simd[row]), *facts), place, simd)
    values[:10] += _registers(np.where(apart, pairs.accumulator_bits, NO_REGISTER.bits), fpga.calibration)
    return Circuits(values[:9].reshape(3, 3, -1), *values[9:])


def _registers(bits: Floats, calibration: str) -> Floats:
    """[10, pairs]: LOGIC with its intervals and fJ of an accumulator."""

    def prices(row: int) -> list[float]:
        parts = ((1.0, Unit("accumulator", acc=int(bits[row]))),)
        return price(LOGIC_AND_ENERGY, parts, calibration)[:10]

    return once(prices, bits)


@lru_cache(maxsize=CACHED_CIRCUITS)
def _element(
    product: Product, simd: int, multipliers: str, long_port_bits: int, calibration: str
) -> tuple[float, ...]:
    parts, slices, sharing = multiplier_parts(product, simd, multipliers, long_port_bits)
    lanes = lane_units(product.w, product.a, product.acc, simd, product.block)
    logic = price(LOGIC_AND_ENERGY, parts, calibration)
    energy_fj = logic[9] if lanes == parts else price(LOGIC_AND_ENERGY, lanes, calibration)[9]
    return (*logic[:9], energy_fj, slices, sharing)


def multiplier_parts(
    product: Product, simd: int, multipliers: str, long_port_bits: int
) -> tuple[Parts, int, int]:
    """The LUT circuits of one processing element, the DSP slices that replace one integer multiplier of it, and the
    elements that share these.
    """
    w, a, acc = product.w, product.a, product.acc
    parts = dot_units(w, a, acc, simd, product.block)
    wide = w.bits + a.bits >= DSP_MIN_PRODUCT_BITS
    integers = w.kind == a.kind == "integer" and not acc.is_float and w.bits * a.bits > 1
    if not integers or multipliers == "lut" or (multipliers == "auto" and not wide):
        return parts, 0, 1
    tree: Parts = ((1.0, Unit("addtree", n=simd, b=w.bits + a.bits)),) if simd > 1 else ()
    sharing = packed_products(w.bits, a.bits, long_port_bits)
    return (*tree, (1.0, Unit("accumulator", acc=acc.bits))), slices_of_product(w.bits, a.bits), sharing


def packed_products(w: int, a: int, long_port_bits: int) -> int:
    """Products with a common operand that one slice computes.

    Two of 8 bits lie 18 bits apart, so 18 + 8 + 1 bits of the long port hold both first operands (AMD WP486): a
    DSP48E2 has them, a DSP48E1 does not. Four of 4 bits need the same port (AMD WP521); on the shorter one, two.
    """
    widest = max(w, a)
    if long_port_bits >= PACKED_PORT_BITS:
        return DSP_PRODUCTS_INT4 if widest <= 4 else DSP_PRODUCTS_INT8 if widest <= 8 else 1
    return 2 if widest <= 4 else 1


def price_block_ends(pairs: Pairs, calibration: str) -> Floats:
    """[3 of LOGIC, 3, pairs]: what ends a block of shared scales, zeros where there are none."""

    def ends(row: int) -> list[float]:
        product = pairs.product_of(row)
        return price(LOGIC, block_end_units(product.w, product.a, product.block), calibration)

    return once(ends, pairs.product).reshape(3, 3, -1)


def price_outputs(pairs: Pairs, calibration: str, *, thresholds: bool) -> tuple[Floats, Floats]:
    """Requantizers, [3 of LOGIC, 3, pairs], and their fJ a result, [pairs].

    thresholds: whether parallel thresholds, whose memory serves a whole layer, may take their place.
    """
    rounds = np.ceil(pairs.outputs / 64) if thresholds else np.zeros(len(pairs.outputs))
    values = once(
        lambda row: _output(pairs.product_of(row), pairs.out_of(row), int(rounds[row]), calibration),
        *(pairs.product, pairs.out, rounds),
    )
    return values[:9].reshape(3, 3, -1), values[9]


@lru_cache(maxsize=CACHED_CIRCUITS)
def _output(product: Product, out: Operand, rounds: int, calibration: str) -> tuple[float, ...]:
    plain = output_units(product.w, product.a, product.acc, out)
    parts = requantizers(product, out, rounds, calibration) if rounds else plain
    energy_fj = price(LOGIC_AND_ENERGY, plain, calibration)[9]
    return (*price(LOGIC, parts, calibration), energy_fj)


def requantizers(product: Product, out: Operand, rounds: int, calibration: str) -> Parts:
    """The cheaper, in LUTs, of a requantizer and of parallel thresholds for outputs of at most four bits (FINN).

    rounds: LUTs of 64 words that the thresholds of all output channels need for one bit.
    """
    acc = product.acc
    parts = output_units(product.w, product.a, acc, out)
    if out.kind == "integer" and out.bits <= 4 and not acc.is_float and not out.block:
        memory = (2**out.bits - 1) * acc.bits * rounds
        thresholds: Parts = ((1.0, Unit("threshold", b=acc.bits, k=out.bits)),)
        if price(LOGIC, thresholds, calibration)[0] + memory < price(LOGIC, parts, calibration)[0]:
            return (*thresholds, (float(memory), Unit("addtree", n=2, b=1)))
    return parts
