"""qsim-report: any number of finished runs become one comparison."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qsim.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 with one line on standard error for a mistake in the arguments or the folders."""
    parser = _Parser(
        prog="qsim-report",
        description="Compare finished runs: a table, a picture, a page and a CSV file.",
        epilog="example: qsim-report multirun/2026-01-31/12-00-00 --out comparison",
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="a run folder, or a folder with runs below it"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: the first FOLDER)", default=None
    )
    try:
        options = parser.parse_args(arguments)
        _report(options.folders, options.out or options.folders[0])
    except (UserError, OSError) as error:
        print(f"qsim-report: {error}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        """One line instead of argparse's usage and a line."""
        raise UserError(f"{message} (see qsim-report --help)")


def _report(folders: Sequence[Path], out: Path) -> None:
    # Imported here so that --help and a mistyped folder answer at once.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from reports.compare import compare
    from reports.results import find_runs

    comparison = compare(find_runs(folders), out)
    table = Table(box=None, header_style="bold")
    for position, name in enumerate(comparison.header):
        table.add_column(Text(name), justify="left" if position < 3 else "right")
    for row in comparison.rows:
        table.add_row(*map(Text, row))
    # A pipe or a file has no width to fit: lines stay whole there.
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    for path in comparison.files:
        console.print(Text(f"wrote {path}"), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
