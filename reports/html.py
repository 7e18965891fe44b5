"""report.html: one self-contained page (picture, tables, bit plans, provenance) that needs no network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import pandas as pd

from qsim.errors import UserError
from qsim.plan import BitPlan, TensorPlan
from reports.quantities import Quantity
from reports.results import PROVENANCE, Run, cost_names, is_searched, named_objectives, objectives_of
from reports.table import cells, summary_rows

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem;
       margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem }
figure { margin: 0 } figure svg { width: 100%; height: auto }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e4e4e4 }
th { border-bottom: 2px solid #999; vertical-align: bottom } td.text, th.text { text-align: left }
td.spec { text-align: center; border: 1px solid #fff }
caption, .note { color: #555; font-size: .88rem; text-align: left }
code { font-size: .88rem }
"""
PLANS_SHOWN = 8
# Light to dark blue by bits; text turns white on the dark ones.
BIT_COLOURS = (
    *((2, "#deebf7"), (3, "#c6dbef"), (4, "#9ecae1"), (6, "#6baed6")),
    *((8, "#4292c6"), (16, "#2171b5"), (1e9, "#08519c")),
)


def run_page(run: Run, svg: str, objectives: Sequence[Quantity] | None = None) -> str:
    """The page of one run; `svg` is the text of its pareto.svg."""
    shown = summary_rows(run.table)
    objectives = list(objectives) if objectives is not None else objectives_of(run.table)
    every_cost = named_objectives(run.table, cost_names(run.table))
    sections = [
        ("Accuracy against cost", figure(svg)),
        ("Baselines and chosen plans", html_table(*cells(shown, objectives))),
        ("Formats, tensor by tensor", _plans_section(run, shown)),
        ("Every configuration, every cost", html_table(*cells(run.table, every_cost))),
        ("Where this comes from", provenance_table(run.table)),
    ]
    return page(f"qsim: {run.name}", sections)


def page(title: str, sections: Iterable[tuple[str, str]]) -> str:
    """A whole HTML document of (heading, HTML) sections; headings are escaped here."""
    body = "\n".join(f"<h2>{escape(heading)}</h2>\n{content}" for heading, content in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def figure(svg: str) -> str:
    """An SVG file's text as an inline picture, without its XML prologue."""
    start = svg.find("<svg")
    if start < 0:
        raise UserError("the picture for the report is not SVG")
    note = (
        "The search chose on one half of the evaluation data; what is shown was measured on the other half. "
        "Bars are 95 % intervals."
    )
    return f'<figure>{svg[start:]}<figcaption class="note">{note}</figcaption></figure>'


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 2) -> str:
    """A table of texts, every one escaped; the first `left` columns are aligned to the left."""

    def line(texts: Sequence[str], tag: str) -> str:
        parts = [
            f"<{tag}{' class=text' if position < left else ''}>{escape(text)}</{tag}>"
            for position, text in enumerate(texts)
        ]
        return "<tr>" + "".join(parts) + "</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table>\n{line(header, "th")}\n{body}\n</table></div>'


def provenance_table(table: pd.DataFrame) -> str:
    """Model, data, hardware, seed and version, each with the values the table holds."""
    rows = []
    for name in PROVENANCE:
        if name in table.columns and name not in ("agreement", "seconds"):
            rows.append([name, ", ".join(sorted({str(value) for value in table[name].dropna()}))])
    if "seconds" in table.columns:
        seconds = pd.to_numeric(table["seconds"], errors="coerce").sum()
        rows.append(["configurations", f"{len(table)}, measured in {seconds:.1f} s"])
    return html_table(["", "value"], rows)


def _plans_section(run: Run, shown: pd.DataFrame) -> str:
    # Every tensor of a uniform plan is alike, so searched plans come first.
    searched = is_searched(shown)
    plans: list[tuple[str, BitPlan]] = []
    for record in pd.concat([shown[searched], shown[~searched]]).to_dict("records"):
        path = run.plan_path(str(record["plan_id"]))
        if path is not None and len(plans) < PLANS_SHOWN:
            plans.append((str(record["label"]), BitPlan.load(path)))
    if not plans:
        return '<p class="note">This run kept no plans.</p>'
    note = "Every plan of the run is in the folder plans, named by its id. Hover a cell for the whole format."
    return f'{plans_table(plans)}<p class="note">{note}</p>'


def plans_table(plans: Sequence[tuple[str, BitPlan]]) -> str:
    """A row for each tensor, a column for each (label, plan), coloured by bits; biases are left out."""
    roles: dict[str, str] = {}
    for _, plan in plans:
        for name, tensor in plan.tensors.items():
            if tensor.role != "bias":
                roles.setdefault(name, tensor.role)
    header = "".join(f"<th>{escape(label)}<br><code>{escape(plan.id)}</code></th>" for label, plan in plans)
    lines = [f"<tr><th class=text>tensor</th><th class=text>role</th>{header}</tr>"]
    for name, role in roles.items():
        row = "".join(_spec_cell(plan.tensors.get(name)) for _, plan in plans)
        lines.append(f"<tr><td class=text>{escape(name)}</td><td class=text>{escape(role)}</td>{row}</tr>")
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _spec_cell(tensor: TensorPlan | None) -> str:
    if tensor is None:
        return "<td class=spec>float32</td>"
    bits = max(spec.bits for spec in tensor.specs)
    colour = next(colour for limit, colour in BIT_COLOURS if bits <= limit)
    ink = "#fff" if bits >= 8 else "#222"
    # The cell shows the element, and the block where there is one; the title holds the whole spec.
    short = re.sub(r"(@block[^:|]*)?(@[^|]*|:[^|]*)?", lambda match: match[1] or "", tensor.text)
    return (
        f'<td class=spec style="background:{colour};color:{ink}" title="{escape(tensor.text)}">'
        f"{escape(short)}</td>"
    )


def write_run_page(run: Run, svg: Path, objectives: Sequence[Quantity] | None = None) -> Path:
    """Write report.html into the run's folder."""
    path = run.folder / "report.html"
    path.write_text(run_page(run, svg.read_text(encoding="utf-8"), objectives), encoding="utf-8")
    return path
