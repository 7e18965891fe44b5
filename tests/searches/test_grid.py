import pytest

from qsim.errors import UserError
from searches.candidates import make_grid

INTEGERS = ["int4@channel:float32", "int8@channel:float32"]


def test_a_grid_holds_every_pair_of_every_family() -> None:
    grid = make_grid(
        {
            "integer": {"weights": INTEGERS, "activations": ["uint8+zp@tensor:float32"]},
            "MX": {"weights": ["mxfp4"], "activations": ["mxfp4", "mxfp8_e4m3"]},
        }
    )
    assert [(choice.family, choice.label) for choice in grid] == [
        ("integer", "integer w4a8"),
        ("integer", "integer w8a8"),
        ("MX", "MX w4a4"),
        ("MX", "MX w4a8"),
    ]
    assert str(grid[0].weights) == "int4@channel:float32"


def test_two_formats_of_one_width_are_named_by_their_elements() -> None:
    grid = make_grid({"float": {"weights": ["e3m2fn", "e2m3fn"], "activations": ["e2m1fn"]}})
    assert [choice.label for choice in grid] == ["float we3m2fna4", "float we2m3fna4"]


def test_a_family_without_activations_is_refused() -> None:
    with pytest.raises(UserError, match=r"formats\.grid\.float must hold the lists weights and activations"):
        make_grid({"float": {"weights": ["e3m2fn"]}})
