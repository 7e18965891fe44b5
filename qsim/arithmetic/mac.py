"""How a multiply-accumulate unit rounds: the facts of one MAC, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from qsim.errors import UserError

Order = Literal["sequential", "pairwise"]
Saturate = Literal["step", "end"]
Multiply = Literal["exact", "l_mul_real", "l_mul_int_add"]


@dataclass(frozen=True)
class Mac:
    """A multiply-accumulate unit.

    `acc` starts at the bias (or +0); acc <- cast(acc + exact sum of the next `lanes` products), in index order.

    product: "exact", or the expression every product is cast to ("float16" is mul-then-add, "exact" is FMA).
    accumulator: "exact" (a Kulisch register), or the expression every partial sum is cast to ("int32",
        "fixed16.8/floor/wrap", "float16").
    lanes: products summed exactly (an adder tree) before one cast.
    order: "sequential", or "pairwise" ((p0+p1), (p2+p3), ..., an odd one carried, every node cast).
    chunk: number of products accumulated in `accumulator` before the partial sum moves on to `chunk_accumulator`.
    align_bits: addends are aligned to the largest and truncated to this many bits (tensor cores); None = no truncation.
    saturate: an accumulator that saturates does so at every "step", or once at the "end".
    multiply: the exact product, or L-Mul in one of its two published forms (arXiv 2410.00907).
    """

    product: str = "exact"
    accumulator: str = "exact"
    lanes: int = 1
    order: Order = "sequential"
    chunk: int | None = None
    chunk_accumulator: str | None = None
    align_bits: int | None = None
    saturate: Saturate = "step"
    multiply: Multiply = "exact"

    def __post_init__(self) -> None:
        for name, choices in (("order", Order), ("saturate", Saturate), ("multiply", Multiply)):
            if getattr(self, name) not in get_args(choices):
                raise UserError(
                    f"mac.{name} is '{getattr(self, name)}'; it can be {', '.join(get_args(choices))}"
                )
        for name in ("lanes", "chunk", "align_bits"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UserError(f"mac.{name} is {value!r}; it must be a positive integer")
        for name in ("product", "accumulator", "chunk_accumulator"):
            text = getattr(self, name)
            if text is not None and text != "exact":
                object.__setattr__(self, name, _canonical_cast(name, text))

    def to_dict(self) -> dict[str, Any]:
        """The fields that differ from the default, as plain data."""
        default = Mac()
        return {key: value for key, value in asdict(self).items() if value != getattr(default, key)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Mac:
        unknown = set(data) - {field.name for field in fields(cls)}
        if unknown:
            known = ", ".join(field.name for field in fields(cls))
            raise UserError(f"mac has no option '{min(unknown)}'; it has {known}")
        return cls(**data)


def _canonical_cast(name: str, text: str) -> str:
    from qsim.parse import parse

    spec = parse(str(text))
    if spec.scale is not None:
        raise UserError(
            f"mac.{name} '{text}' has a scale; a {name} is an element with a cast, such as int32 or float16"
        )
    return str(spec)


def l_mul_offset_bits(mantissa: int) -> int:
    """l(m) of L-Mul (arXiv 2410.00907, equation 2): 2^-l stands in for the product of the fractions."""
    return mantissa if mantissa <= 3 else 3 if mantissa == 4 else 4
