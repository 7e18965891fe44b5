"""What every command line shares: Hydra with one-line answers, and models and data opened from their config groups."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from qsim.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from qsim.data import Dataset
    from qsim.graph import Graph

CONFIGS = "pkg://configs"
log = logging.getLogger("qsim")


def run(task: Callable[[DictConfig], Any], config_name: str) -> None:
    """Run `task` under Hydra; a user's mistake prints one line and exits with status 2."""
    import hydra

    os.environ.setdefault(
        "HYDRA_FULL_ERROR", "1"
    )  # our own lines replace Hydra's; a defect keeps its traceback
    try:
        _check_overrides(config_name, sys.argv[1:])
        hydra.main(version_base="1.3", config_path=CONFIGS, config_name=config_name)(_one_line(task))()
    except UserError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; what was measured is in the store, the same command continues", status=130)
    except Exception as error:
        if not type(error).__module__.startswith(("hydra", "omegaconf")):
            raise
        fail(" ".join(str(error).split()))


def _one_line(task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """The task, ending a single run at a user's mistake before Hydra adds lines of its own."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    @functools.wraps(task)
    def guarded(config: DictConfig) -> Any:
        try:
            return task(config)
        except UserError as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # the launcher may be in another process
            fail(str(error))

    return guarded


def fail(message: str, status: int = 2) -> NoReturn:
    """One line on standard error, then exit."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status)


def _check_overrides(config_name: str, arguments: list[str]) -> None:
    """Compose once before Hydra does, to say in one line what is wrong: group, option, or value."""
    from hydra import compose, initialize_config_module
    from hydra.core.override_parser.overrides_parser import OverridesParser

    words = [word for word in arguments if not word.startswith("-") and "=" in word]
    stray = [word for word in arguments if not word.startswith(("-", "+", "~")) and "=" not in word]
    flags = {
        "--config-dir",
        "-cd",
        "--config-path",
        "-cp",
        "--config-name",
        "-cn",
        "--package",
        "-p",
        "--info",
        "-i",
        "--experimental-rerun",
    }
    if stray and not any(arguments[max(0, arguments.index(word) - 1)] in flags for word in stray):
        raise UserError(
            f"'{stray[0]}' is not an option: write group=choice or key=value, such as hardware=asic_45nm "
            "(--help lists them)"
        )
    if any(
        flag in arguments
        for flag in (
            "--help",
            "-h",
            "--hydra-help",
            "--version",
            "--shell-completion",
            "-sc",
            "--config-dir",
            "-cd",
        )
    ):
        return
    overrides = OverridesParser.create().parse_overrides(words)
    with initialize_config_module("configs", version_base="1.3"):
        plain = [
            str(override.input_line)
            for override in overrides
            if not override.is_sweep_override() and not _is_hydra(override)
        ]
        _compose(compose, config_name, plain)
        for override in overrides:
            if override.is_sweep_override() and not _is_hydra(override):
                for value in override.sweep_string_iterator():
                    _compose(compose, config_name, [*plain, f"{override.get_key_element()}={value}"])


def _is_hydra(override: Any) -> bool:
    return str(override.key_or_group).startswith("hydra")


def _compose(compose: Callable[..., Any], config_name: str, overrides: list[str]) -> None:
    from hydra.errors import ConfigCompositionException, MissingConfigException

    try:
        compose(config_name, overrides=overrides)
    except MissingConfigException as error:
        raise UserError(_missing_choice(str(error.missing_cfg_file or error))) from None
    except ConfigCompositionException as error:
        groups = [override for override in overrides if "." not in override.split("=")[0]]
        try:
            config = compose(config_name, overrides=groups)
        except ConfigCompositionException:
            config = compose(config_name)
        raise UserError(_wrong_key(error, config, overrides)) from None


def _missing_choice(file: str) -> str:
    group, _, choice = file.partition("/")
    folder = Path(sys.modules["configs"].__path__[0]) / group
    choices = sorted(path.stem for path in folder.glob("*.yaml"))
    close = get_close_matches(choice, choices, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{group}={choice} does not exist: {hint}{group} can be {', '.join(choices)}"


def _wrong_key(error: Exception, config: Any, overrides: list[str]) -> str:
    lines = " ".join(str(error).split())
    for override in overrides:
        key = override.lstrip("+~").split("=", 1)[0]
        parent, name = config, key
        for part in key.split("."):
            if not hasattr(parent, "keys"):
                break
            known = sorted(map(str, parent.keys()))  # `in parent` would deny a mandatory value still missing
            if part not in known:
                close = get_close_matches(part, known, 1)
                hint = f"did you mean {close[0]}? " if close else ""
                where = name[: -len(part) - 1] if name.endswith(f".{part}") else "the top level"
                return f"option '{key}' does not exist: {hint}{where} has {', '.join(known)}"
            parent = parent[part] if not _is_missing(parent, part) else {}
    return lines


def _is_missing(config: Any, key: str) -> bool:
    from omegaconf import OmegaConf

    return bool(OmegaConf.is_missing(config, key))


def open_model(config: DictConfig) -> Graph:
    """The graph of config group `model`; UserError naming the option that is missing or wrong."""
    import qsim

    if config.kind == "embedded":
        import torch

        from qsim import embedded

        return qsim.load_model(embedded.load_network(), torch.zeros(1, 1, 28, 28))
    if config.kind == "onnx":
        return qsim.load_model(Path(_given(config, "path", "model.path=net.onnx")))
    if config.kind == "torch":
        return _torch_model(
            str(_given(config, "path", "model.path=file.py:function")),
            list(_given(config, "shape", "model.shape=[1,3,32,32]")),
        )
    raise UserError(f"model.kind '{config.kind}' is unknown; it can be embedded, onnx or torch")


def open_data(config: DictConfig, graph: Graph) -> Dataset:
    """The dataset of config group `data`, checked against the inputs of `graph`."""
    from qsim.data import Preprocessing, load_npz

    if config.kind == "embedded":
        return _embedded_data(graph).head(config.samples)
    if config.kind == "npz":
        preprocessing = Preprocessing(
            **{
                key: _plain(config[key])
                for key in ("axes", "reshape", "zero_point", "scale", "mean", "std", "channel_axis")
            }
        )
        path = Path(_given(config, "path", "data.path=data.npz"))
        return load_npz(path, graph, preprocessing, suffix=config.suffix).head(config.samples)
    raise UserError(f"data.kind '{config.kind}' is unknown; it can be embedded or npz")


def _plain(value: Any) -> Any:
    from omegaconf import OmegaConf

    return (
        OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
        if OmegaConf.is_config(value)
        else value
    )


def _given(config: DictConfig, key: str, example: str) -> Any:
    if _is_missing(config, key):
        raise UserError(f"{example.split('=')[0]} is not given: add, for instance, {example}")
    return _plain(config[key])


def _embedded_data(graph: Graph) -> Dataset:
    import hashlib

    from qsim import embedded
    from qsim.data import Dataset

    arrays = embedded.load_data()
    name = graph.inputs[0]
    if tuple(graph.tensors[name].shape[1:]) != (1, 28, 28):
        raise UserError(
            f"data=embedded holds 28 x 28 digits, the model's input '{name}' has shape "
            f"{graph.tensors[name].shape}: give data=npz data.path=..."
        )
    digest = hashlib.sha256()
    for key in sorted(arrays):
        digest.update(key.encode() + arrays[key].tobytes())
    return Dataset(
        "embedded digits",
        {name: arrays["x_calib"]},
        {name: arrays["x_eval"]},
        arrays["y_eval"],
        digest.hexdigest(),
    )


def _torch_model(path: str, shape: list[int]) -> Graph:
    import torch

    import qsim

    module = load_function(path, "model.path")()
    return qsim.load_model(module.eval(), torch.zeros(shape))


def load_function(path: str, option: str) -> Callable[..., Any]:
    """A function of the user's own file, named on the command line as file.py:function."""
    import importlib.util

    file, _, name = path.rpartition(":")
    if not file.endswith(".py") or not Path(file).is_file():
        raise UserError(f"{option}='{path}' is not file.py:function of an existing file")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"{option}: {file} has no function '{name}'")
    return function


def as_mapping(config: Any) -> Mapping[str, Any]:
    """A config node as plain data."""
    return _plain(config) or {}
