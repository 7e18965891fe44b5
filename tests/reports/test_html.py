"""report.html: self-contained, well-formed, and safe whatever names the user's files carry."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from qsim import BitPlan, parse
from qsim.errors import UserError
from qsim.plan import TensorPlan
from reports.front import save_front
from reports.html import figure, plans_table, run_page, write_run_page
from reports.results import Run, check_table, named_objectives

Results = Callable[..., pd.DataFrame]
EVIL = "<script>alert('x')</script>&\"'"


class Balanced(HTMLParser):
    """Fails on an element that is closed out of order or never."""

    VOID = frozenset({"meta", "br", "hr", "img", "path", "use"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def plan_of(weight: str, activation: str) -> BitPlan:
    return BitPlan(
        tensors={
            "conv.weight": TensorPlan(parse(weight), "weight", 0),
            "conv.bias": TensorPlan(parse("int32@channel:float32"), "bias", 0),
            "x": TensorPlan(parse(activation), "activation", 1),
        }
    )


@pytest.fixture
def run(results: Results, tmp_path: Path) -> tuple[Run, Path]:
    table = check_table(results(searches=("ilp",), points=3))
    _, svg = save_front({"run": table}, tmp_path, named_objectives(table, ["lut"]))
    return Run(tmp_path.name, tmp_path, table), svg


def test_page_is_well_formed_and_needs_nothing_else(run: tuple[Run, Path]) -> None:
    text = write_run_page(*run).read_text()
    parser = Balanced()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert {"svg", "table", "style"} <= set(parser.seen)
    assert not {"script", "link", "img", "iframe"} & set(parser.seen)
    links = re.findall(r'(?:src|href|url\()\s*=?\s*["\']?([^"\')>\s]+)', text)
    assert all(link.startswith("#") for link in links), "everything is inside the page"


def test_page_tells_rows_costs_and_provenance(run: tuple[Run, Path]) -> None:
    text = run_page(run[0], run[1].read_text())
    for expected in ("uniform int8", "ilp 2/3", "fpga_zcu104", "Weight memory", "0.1.0", "0" * 64):
        assert expected in text


def test_hostile_names_are_escaped(results: Results, run: tuple[Run, Path]) -> None:
    table = check_table(results().assign(label=EVIL, model=EVIL, search=EVIL, hardware=EVIL))
    text = run_page(Run(EVIL, Path(EVIL), table), run[1].read_text())
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_bit_plans_stand_tensor_by_tensor(run: tuple[Run, Path]) -> None:
    plans = [
        ("eight", plan_of("int8@channel:float32", "uint8@tensor:float32")),
        (EVIL, plan_of("int4@channel:float32", "mxfp4")),
    ]
    text = plans_table(plans)
    assert "conv.weight" in text
    assert "conv.bias" not in text
    assert 'title="int4@channel:float32">int4</td>' in text
    assert 'title="e2m1fn@block32:e8m0">e2m1fn@block32</td>' in text
    assert "<script" not in text


def test_plans_of_the_run_folder_are_shown(run: tuple[Run, Path]) -> None:
    table, folder = run[0].table, run[0].folder
    plan_id = table.loc[table["label"] == "uniform int8", "plan_id"].iloc[0]
    path = plan_of("int8@channel:float32", "uint8@tensor:float32").save(folder / "plans" / f"{plan_id}.json")
    text = run_page(Run("run", folder, table, {path.stem: path}), run[1].read_text())
    assert "uint8@tensor:float32" in text
    assert "kept no plans" not in text


def test_a_picture_that_is_no_svg_is_refused() -> None:
    with pytest.raises(UserError, match="not SVG"):
        figure("<b>hello</b>")
