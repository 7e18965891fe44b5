"""The table as CSV and Markdown, and what it says in words: one sentence a method and network, none by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from searches.statistics import RESAMPLES, Interval, paired_difference
from tests.benchmarks.ptq_table.measure import Bench, Cell
from tests.benchmarks.ptq_table.rows import FINDINGS, FORMATS, METHODS, NETWORKS, PLAIN

Array = NDArray[Any]
Row = list[Cell]
Found = Mapping[str, Mapping[str, Row]]
UNITS = {
    "top1": ("points", 100.0),
    "reconstruction_auc": ("AUC points", 100.0),
    "perplexity": ("perplexity", 1.0),
}
COLUMNS = (
    *("network", "metric", "method", "format", "weights", "activations", "value", "float_value"),
    *("difference", "difference_low95", "difference_high95"),
    *(
        "over_plain",
        "over_plain_low95",
        "over_plain_high95",
        "over_base",
        "over_base_low95",
        "over_base_high95",
    ),
    *(
        "agreement",
        "sqnr_db",
        "size_kib",
        "quantize_s",
        "evaluate_s",
        "spent_s",
        "quantize_peak_mib",
        "evaluate_peak_mib",
    ),
    *(
        "seeds",
        "value_lowest_seed",
        "value_highest_seed",
        "plan",
        "plain_plan",
        "base_plan",
        "source",
        "failed",
    ),
)


def write_table(out: Path, found: Found, benches: Mapping[str, Bench], command: str) -> None:
    """<out>/ptq_table.csv and <out>/ptq_table.md."""
    rows = [
        _entry(cells, by_method, benches[network])
        for network, by_method in found.items()
        for cells_of_method in by_method.values()
        for cells in _by_format(cells_of_method).values()
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    out.mkdir(parents=True, exist_ok=True)
    table.round(6).to_csv(out / "ptq_table.csv", index=False)
    parts = [_head(table, command)]
    parts += [_network_part(table[table.network == network], benches[network]) for network in found]
    parts.append("## What was looked into\n\n" + "\n".join(f"- {finding}" for finding in FINDINGS))
    (out / "ptq_table.md").write_text("\n\n".join(parts) + "\n")


def _by_format(cells: Row) -> dict[str, Row]:
    return {name: own for name in FORMATS if (own := [cell for cell in cells if cell.format == name])}


def _entry(cells: Row, by_method: Mapping[str, Row], bench: Bench) -> dict[str, Any]:
    """One line of the CSV: the mean over seeds, intervals of the first seed's samples."""
    first = cells[0]
    weights, activations = FORMATS[first.format]
    entry: dict[str, Any] = {
        "network": first.network,
        "metric": bench.metric.name,
        "method": first.method,
        "format": first.format,
        "weights": weights,
        "activations": activations or "float32",
        "seeds": len(cells),
        "plan": first.plan,
        "source": first.version,
        "failed": first.failed,
    }
    if first.failed:
        return entry
    values = [cell.value for cell in cells]
    agreements = [cell.agreement for cell in cells if cell.agreement is not None]
    entry |= {
        "value": float(np.mean(values)),
        "float_value": bench.metric.value(bench.float_scores),
        "value_lowest_seed": min(values),
        "value_highest_seed": max(values),
        "agreement": float(np.mean(agreements)) if agreements else None,
        "sqnr_db": first.sqnr_db,
        "size_kib": first.size_kib,
        "quantize_s": float(np.mean([cell.quantize_s for cell in cells])),
        "evaluate_s": first.evaluate_s,
        # cells of before it was counted apart have none: theirs is an upper bound
        "spent_s": sum(cell.spent_s or cell.quantize_s + cell.evaluate_s for cell in cells),
        "quantize_peak_mib": first.peak_mib[0],
        "evaluate_peak_mib": first.peak_mib[1],
    }
    plain = _measured(by_method, PLAIN, first.format)
    base = _measured(by_method, METHODS[first.method].base, first.format)
    entry |= {"plain_plan": plain and plain.plan, "base_plan": base and base.plan}
    over = {"difference": _difference(first.scores, bench.float_scores, bench)}
    if plain is not None:
        over["over_plain"] = _difference(first.scores, plain.scores, bench)
    if base is not None:
        over["over_base"] = (
            over["over_plain"] if base is plain else _difference(first.scores, base.scores, bench)
        )
    for name, interval in over.items():
        entry |= {name: interval.value, f"{name}_low95": interval.low, f"{name}_high95": interval.high}
    return entry


def _measured(by_method: Mapping[str, Row], method: str, format_name: str) -> Cell | None:
    found = [cell for cell in by_method.get(method, []) if cell.format == format_name and not cell.failed]
    return found[0] if found else None


def _difference(scores: Any, reference: Any, bench: Bench) -> Interval:
    """Paired, 95 % bootstrap over samples."""
    ours, theirs = np.asarray(scores), np.asarray(reference)
    if np.array_equal(ours, theirs):
        return Interval(0.0, 0.0, 0.0)
    if bench.metric.name == "reconstruction_auc":
        return _auc_difference(ours, theirs)
    if bench.metric.is_mean:
        return _mean_difference(ours, theirs)
    if bench.metric.name == "perplexity":
        return _mean_difference(ours, theirs, np.exp)
    return paired_difference(ours, theirs, bench.metric.value)


@cache
def _draws(samples: int) -> Array:
    """How often each resample holds each sample [RESAMPLES, samples], as `paired_difference` draws them."""
    picks = np.random.default_rng(0).integers(samples, size=(RESAMPLES, samples))
    return np.stack([np.bincount(pick, minlength=samples) for pick in picks]).astype(float)


def _mean_difference(ours: Array, theirs: Array, value: Callable[[Any], Any] = lambda mean: mean) -> Interval:
    """`paired_difference` of a function of means, all draws at once."""
    sides = [side.reshape(len(side), -1).mean(1) for side in (ours, theirs)]
    draws = _draws(len(ours)) / len(ours)
    low, high = np.quantile(value(draws @ sides[0]) - value(draws @ sides[1]), [0.025, 0.975])
    return Interval(float(value(sides[0].mean()) - value(sides[1].mean())), float(low), float(high))


def _auc_difference(ours: Array, theirs: Array) -> Interval:
    """`paired_difference` of areas under the ROC curve, all draws at once."""
    drawn, once = _draws(len(ours)), np.ones((1, len(ours)))
    difference = _areas(ours, drawn) - _areas(theirs, drawn)
    low, high = np.nanquantile(difference, [0.025, 0.975])
    return Interval(float((_areas(ours, once) - _areas(theirs, once))[0]), float(low), float(high))


def _areas(scores: Array, counts: Array) -> Array:
    """Area under the ROC curve with each sample taken counts[draw, sample] times; ties count half."""
    _, rank = np.unique(scores[:, 0], return_inverse=True)
    member = np.eye(rank.max() + 1)[rank]  # [samples, ranks]
    positive = (counts * (scores[:, 1] == 1)) @ member
    negative = (counts * (scores[:, 1] != 1)) @ member
    below = negative.cumsum(1) - negative / 2
    with np.errstate(invalid="ignore"):  # a draw of one class only has none
        return np.asarray((positive * below).sum(1) / (positive.sum(1) * negative.sum(1)))


def _head(table: pd.DataFrame, command: str) -> str:
    measured = table[table.plan != ""]
    evaluate_minutes = measured.drop_duplicates(["network", "plan"]).evaluate_s.sum() / 60
    minutes = measured.spent_s.sum() / 60
    return f"""# What each quantization method does in each format

`{command}`

Calibration data only; every number over all evaluation samples; one format on every weight and every operand of a
layer, first and last included. Columns: int8 = W8A8; int4, int3: weights alone; W4A8, W4A4: integers, weights an
output channel, activations a tensor with zero point; e4m3, e3m2, e2m1: float32 scales, weights a channel, activations
a tensor; mxfp8 (e4m3), mxfp4, mxint8, nvfp4 on both; fixed8: int8 with a power-of-two scale a tensor. KiB: weights and
biases.

A cell: metric (difference to float32 [paired 95 % bootstrap interval]), agreement with float32's answers in %,
seconds of processor time to quantize, calibration included. "=": the same plan as plain rounding (row {PLAIN}), or as
the row named; "-": has no meaning there or refuses, see the CSV; "..": not measured. **Bold**: above plain rounding by
a paired interval; *italic*: below it. Methods that draw: the mean of the seeds, "±" half their range. What each row
is: tests/benchmarks/ptq_table/rows.py; from row bias_correction on, scales are those of row output. Differences to
plain rounding and to the row that a method builds on are in ptq_table.csv.

Processor time of all cells: {minutes:.0f} minutes on one core, of it {evaluate_minutes:.0f} to evaluate (float32 sums
of dequantized values, which give the answers of exact arithmetic; equal plans once). A cell's own seconds include what
it shares with others (ranges, scales, transformed networks); the sum has that once, but for cells that were measured
before it was counted apart, of which it has too much."""


def _network_part(table: pd.DataFrame, bench: Bench) -> str:
    unit, factor = UNITS[bench.metric.name]
    float_value = bench.metric.value(bench.float_scores) * factor
    formats = [name for name in FORMATS if name in set(table.format)]
    sizes = table[table.method == PLAIN].set_index("format").size_kib
    peak = table[["quantize_peak_mib", "evaluate_peak_mib"]].max()
    lines = [
        f"## {NETWORKS[bench.name].label}: {bench.metric.name}, float32 {float_value:.2f}, {bench.data.samples} "
        f"samples, {bench.data.calibration_samples} to calibrate",
        f"Peak resident memory: {peak.iloc[0]:.0f} MiB to quantize, {peak.iloc[1]:.0f} MiB to evaluate.",
        "KiB: "
        + ", ".join(f"{name} {sizes[name]:.1f}" for name in formats if name in sizes and sizes[name] > 0),
        "\n".join(
            [
                "| method | " + " | ".join(formats) + " |",
                "| --- |" + " --- |" * len(formats),
                *(_line(name, own, formats, factor) for name, own in table.groupby("method", sort=False)),
            ]
        ),
        "\n".join(
            f"- {sentence(own, METHODS[str(name)].target, unit, factor, bench.metric.higher_is_better)}"
            for name, own in table.groupby("method", sort=False)
            if name != PLAIN
        ),
    ]
    return "\n\n".join(lines)


def _line(name: Any, own: pd.DataFrame, formats: Sequence[str], factor: float) -> str:
    cells = own.set_index("format")
    return f"| {name} | " + " | ".join(_text(cells, column, factor) for column in formats) + " |"


def _text(cells: pd.DataFrame, column: str, factor: float) -> str:
    if column not in cells.index:
        return ".."
    cell = cells.loc[column]
    if cell.failed:
        return "-"
    if cell.method != PLAIN and cell.plan == cell.plain_plan:
        return "="
    if cell.plan == cell.base_plan and METHODS[cell.method].base != cell.method:
        return f"= {METHODS[cell.method].base}"
    digits = 3 if factor == 1 else 1
    low, high = (cell[f"difference_{end}95"] * factor for end in ("low", "high"))
    spread = (cell.value_highest_seed - cell.value_lowest_seed) * factor / 2
    text = f"{cell.value * factor:.{digits}f}" + (f" ±{spread:.{digits}f}" if cell.seeds > 1 else "")
    mark = {1: "**", -1: "*", 0: ""}[verdict(cell, higher_is_better(cell.metric))]
    agreement = "" if pd.isna(cell.agreement) else f" {100 * cell.agreement:.0f} %"
    return (
        f"{mark}{text}{mark} ({cell.difference * factor:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}])"
        f"{agreement} {_seconds(cell.quantize_s)}"
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


@cache
def higher_is_better(metric: str) -> bool:
    return metric != "perplexity"


def verdict(cell: pd.Series, higher: bool, over: str = "over_plain") -> int:
    """1 where the paired interval lies above the other method's value, -1 below, 0 across."""
    low, high = cell[f"{over}_low95"], cell[f"{over}_high95"]
    if pd.isna(low):
        return 0
    better = int(low > 0) - int(high < 0)
    return better if higher else -better


def sentence(own: pd.DataFrame, target: Sequence[str], unit: str, factor: float, higher: bool) -> str:
    """What a method does for a network, from its cells alone."""
    name, base = own.method.iloc[0], METHODS[own.method.iloc[0]].base
    own = own[own.over_plain.notna()]
    if own.empty:
        return f"{name}: no cell that can be compared."
    over_plain = _counts(own, unit, factor, higher, "over_plain")
    text = f"{name}: against plain rounding {over_plain}"
    aimed = own[own.format.isin(target)]
    where = (
        "in all formats" if len(aimed) == len(own) else f"where its source aims ({', '.join(aimed.format)})"
    )
    compared = aimed[aimed[f"over_{'plain' if base == PLAIN else 'base'}"].notna()]
    if compared.empty:
        return text + "."
    over = "over_plain" if base == PLAIN else "over_base"
    verdicts = [verdict(cell, higher, over) for _, cell in compared.iterrows()]
    helps, hurts = verdicts.count(1), verdicts.count(-1)
    word = "does not help"
    if helps > 2 * hurts and 3 * helps >= len(compared):
        word = "helps"
    elif hurts > helps and 2 * hurts >= len(compared):
        word = "hurts"
    if base == PLAIN and len(aimed) == len(own):
        return f"{text}: it {word}."
    beside = "" if base == PLAIN else f" against row {base}"
    return f"{text}; {where} it {word}{beside}: {_counts(compared, unit, factor, higher, over)}."


def _counts(cells: pd.DataFrame, unit: str, factor: float, higher: bool, over: str) -> str:
    verdicts = [verdict(cell, higher, over) for _, cell in cells.iterrows()]
    median = cells[over].median() * factor
    return (
        f"better in {verdicts.count(1)} of {len(cells)} cells, worse in {verdicts.count(-1)}, "
        f"median {median:+.2f} {unit}"
    )
