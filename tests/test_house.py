"""The rules of the house: who may import whom, what `import qsim` costs, and what a wheel holds."""

from __future__ import annotations

import ast
import configparser
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("qsim", "hwmodels", "searches", "configs", "reports")
KNOWS = {
    "qsim": {"qsim"},
    "hwmodels": {"hwmodels", "qsim"},
    "searches": {"searches", "hwmodels", "qsim"},
    "configs": set(),
    "reports": {"reports", "qsim"},
}
KNOWS_OF_QSIM = {
    "hwmodels": {"arithmetic", "errors", "spec", "parse", "formats", "graph", "plan"},
    "reports": {"errors", "plan"},
}
# Importing these loads no torch. Functions in casting and graph may once they are handed a torch object: what
# needs torch throughout is in a file or folder with a name of torch's, imported inside functions only.
TORCH_FILES = ("torch_", "aten")
TORCH_FREE = (
    *("qsim/__init__.py", "qsim/errors.py", "qsim/spec.py", "qsim/parse.py", "qsim/plan.py"),
    *("qsim/formats", "qsim/casting", "qsim/graph", "hwmodels", "searches", "reports"),
)


def sources(room: str) -> list[Path]:
    return sorted(path for path in (ROOT / room).rglob("*.py") if "__pycache__" not in path.parts)


ALL_SOURCES = [path for room in ROOMS for path in sources(room)]


def imported_modules(path: Path, *, at_import_time: bool = False) -> Iterator[tuple[int, str]]:
    """(line, absolute module name) of every import in a file; `from a import b` gives a and a.b."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if at_import_time and (
                isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
            ):
                continue
            yield child
            yield from walk(child)

    for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def breaches(path: Path) -> Iterator[str]:
    """Why a file's imports break the rules, one line each."""
    room, is_app = path.relative_to(ROOT).parts[0], path.name == "app.py"
    for line, module in imported_modules(path):
        where = f"{path.relative_to(ROOT)}:{line} imports {module}"
        target, *inner = module.split(".")
        if target == "tests":
            yield f"{where}: no room imports the tests"
        if target not in ROOMS:
            continue
        if inner[:1] == ["app"]:
            yield f"{where}: nothing imports an app"
        elif not is_app and target not in KNOWS[room]:
            yield f"{where}: {room} knows only {sorted(KNOWS[room])}"
        elif not is_app and target == "qsim" and inner and room in KNOWS_OF_QSIM:
            # `from qsim import X`: X is a module or something the lazy package offers; only modules count.
            is_module = any((ROOT / "qsim" / inner[0]).with_suffix(end).exists() for end in ("", ".py"))
            if is_module and inner[0] not in KNOWS_OF_QSIM[room]:
                yield f"{where}: of qsim, {room} knows only {sorted(KNOWS_OF_QSIM[room])}"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_downward(room: str) -> None:
    assert sources(room), f"room {room} has no Python file"
    found = [breach for path in sources(room) for breach in breaches(path)]
    assert not found, "\n".join(found)


def test_the_rule_would_see_a_breach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tests.test_house.ROOT" if __name__ == "tests.test_house" else f"{__name__}.ROOT", tmp_path
    )
    (tmp_path / "qsim" / "ptq").mkdir(parents=True)
    guilty = tmp_path / "qsim" / "ptq" / "learn.py"
    guilty.write_text("import hwmodels\nfrom ..app import main\ndef f():\n    from searches import x\n")
    assert len(list(breaches(guilty))) >= 3
    guilty.write_text("from ..graph import Graph\nfrom qsim import parse\nimport torch\n")
    assert list(breaches(guilty)) == []


def has_torch_name(parts: Iterable[str]) -> bool:
    return any(part.startswith(TORCH_FILES) for part in parts)


def test_torch_is_not_imported_where_it_is_not_needed() -> None:
    found = []
    for name in TORCH_FREE:
        for path in [ROOT / name] if name.endswith(".py") else sources(name):
            if path.name == "app.py" or has_torch_name(path.relative_to(ROOT).parts):
                continue
            for line, module in imported_modules(path, at_import_time=True):
                room, *words = module.split(".")
                if room == "torch" or (room in ROOMS and has_torch_name(words)):
                    found.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert not found, found


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in a fresh interpreter after a statement."""
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {module.split(".")[0] for module in result.stdout.split()}


def test_importing_qsim_loads_nothing_heavy() -> None:
    heavy = {
        "torch",
        "numba",
        "onnx",
        "onnxruntime",
        "pandas",
        "scipy",
        "matplotlib",
        "hydra",
        "pulp",
        "pymoo",
    }
    assert not loaded_by("import qsim") & heavy


@pytest.mark.parametrize(
    "statement",
    [
        "import numpy, qsim; qsim.quantize(numpy.ones(3, numpy.float32), qsim.parse('int8@tensor:float32'))",
        "import hwmodels; hwmodels.load_target('fpga_zcu104')",
        "import qsim.graph, qsim.plan, qsim.casting",
        "import searches",
        "import reports.front, reports.table, reports.html, reports.compare",
    ],
)
def test_torch_stays_unloaded(statement: str) -> None:
    assert "torch" not in loaded_by(statement)


def test_every_config_says_what_it_is() -> None:
    paths = sorted((ROOT / "configs").rglob("*.yaml"))
    assert paths
    for path in paths:
        header = []
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                break
            header.append(line.lstrip("# "))
        words = [word for line in header if not line.startswith("@package") for word in line.split()]
        assert len(words) >= 3, f"{path.relative_to(ROOT)} starts without a comment that says what it is"


def test_no_file_is_called_utils() -> None:
    everywhere = [*ALL_SOURCES, *(ROOT / "tests").rglob("*.py")]
    vague = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    assert not [str(path) for path in everywhere if path.name in vague]


def test_every_package_folder_is_a_package() -> None:
    for path in ALL_SOURCES:
        assert (path.parent / "__init__.py").exists(), (
            f"{path.parent} has no __init__.py: it would miss the wheel"
        )


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {requirement.split(">")[0].strip().lower() for requirement in wanted}
    assert not names - pins


# The wheel.


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, so that the working tree stays as it was."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    no_caches = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*ROOMS, "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=no_caches)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(tree)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(folder.glob("qsim-*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_rooms_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    everything = (path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file())
    wanted = {str(path.relative_to(ROOT)) for path in everything if "__pycache__" not in path.parts}
    assert held == wanted


@pytest.mark.slow
def test_wheel_commands_ignore_folders_of_the_same_name(wheel: Path, tmp_path: Path) -> None:
    """A user's working folder often holds folders named configs and reports: ours are still the ones used."""
    site, work = tmp_path / "site", tmp_path / "work"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in ("configs", "reports"):
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text(
            "raise RuntimeError('the folder of the user was imported')\n"
        )
    entry_points = configparser.ConfigParser()
    entry_points.read(next(site.glob("*.dist-info")) / "entry_points.txt")
    scripts = dict(entry_points["console_scripts"])
    assert set(scripts) == {"qsim-search", "qsim-emulate", "qsim-export", "qsim-report", "qsim-calibrate"}
    for command, target in scripts.items():
        module, function = target.split(":")
        script = tmp_path / command
        script.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
        result = subprocess.run(
            [sys.executable, str(script), "--help"],
            cwd=work,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, f"{command} --help\n{result.stderr}"
        assert result.stdout.strip(), f"{command} --help prints nothing"
