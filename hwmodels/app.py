"""qsim-calibrate: refit the cost models to synthesis results."""

from __future__ import annotations

from qsim import command_line
from qsim.errors import UserError


def main() -> None:
    """Entry point of `qsim-calibrate`: a folder of synthesis tables in, a versioned calibration out."""
    from hwmodels import calibrate

    try:
        calibrate.main()
    except UserError as error:
        command_line.fail(str(error))
