"""What README shows works: its Python runs, its commands compose."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.split("#")[0].strip()
]


@pytest.mark.parametrize("position", range(len(PYTHON)))
def test_python_examples_run(position: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON[position], f"README example {position + 1}", "exec"), {})


def test_specs_in_the_table_parse() -> None:
    import qsim

    table = README.split("| expression | is |")[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    specs = [spec for cell in cells for spec in re.findall(r"`([^`]+)`", cell)]
    assert len(specs) >= 12
    for text in specs:
        spec = qsim.parse(text)
        assert qsim.parse(str(spec)) == spec


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{shlex.split(command)[1]}:", makefile, re.MULTILINE)


@pytest.mark.parametrize(
    "command", [line for line in COMMANDS if line.startswith("qsim-") and "report" not in line]
)
def test_commands_compose(command: str) -> None:
    from hydra import compose, initialize_config_module
    from hydra.core.override_parser.overrides_parser import OverridesParser

    program, *words = shlex.split(command)
    overrides = OverridesParser.create().parse_overrides([word for word in words if word != "-m"])
    plain, sweeps = [], []
    for override in overrides:
        if override.is_sweep_override():
            sweeps += [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        else:
            plain.append(override.input_line)
    with initialize_config_module("configs", version_base="1.3"):
        for choices in [plain, *([*plain, sweep] for sweep in sweeps)]:
            assert compose(
                program.replace("-", "_"), [choice for choice in choices if "hydra/" not in choice]
            )


def test_group_choices_named_in_the_table_are_all_there_are() -> None:
    table = README.split("| to choose | write | there are |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        _, _, write, named, _ = line.split("|")
        match = re.match(r"`(\w+)=", write.strip())
        assert match is not None
        folder = ROOT / "configs" / match[1]
        if folder.is_dir():
            words = set(re.findall(r"`([^`=]+)`", named))
            assert {path.stem for path in folder.glob("*.yaml")} == words, match[1]
