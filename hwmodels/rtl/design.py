"""A generated circuit: its Verilog text and its ports, and the library of modules it is put together from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Protocol


class Literal(str):
    """Verilog text that is a value: a parameter given as a plain str is a Verilog string."""

    __slots__ = ()


Parameter = int | str | Literal


@dataclass(frozen=True)
class Port:
    """`lanes` words of `bits` bits, the first in the lowest bits.

    A signed word is two's complement. step_exponent: a word n of a fixed-point port stands for n * 2^step_exponent.
    """

    name: str
    bits: int
    lanes: int = 1
    signed: bool = False
    step_exponent: int = 0

    @property
    def width(self) -> int:
        """Bits of all lanes."""
        return self.bits * self.lanes


@dataclass(frozen=True)
class Design:
    """One circuit. A clocked design has a port `clk` besides `inputs`; its outputs change at the rising edge.

    body: the inside of the top module. parts: other designs that it instantiates by their names.
    """

    name: str
    summary: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    body: str
    clocked: bool = False
    parts: tuple[Design, ...] = ()

    @property
    def top(self) -> str:
        """The top module alone."""
        ports = ["input clk"] if self.clocked else []
        ports += [f"input {_range(port.width)}{port.name}" for port in self.inputs]
        ports += [f"output {_range(port.width)}{port.name}" for port in self.outputs]
        declaration = ",\n".join("    " + port for port in ports)
        comment = "".join(f"// {line}\n" for line in self.summary.splitlines())
        return f"{comment}module {self.name} (\n{declaration}\n);\n{indent(self.body)}\nendmodule\n"

    @property
    def verilog(self) -> str:
        """The top module followed by every library module it needs: a file that stands alone (Verilog-2005)."""
        own = "\n".join([self.top, *(part.top for part in self.parts)])
        return "\n".join([own, *(module_text(name) for name in modules_used(own))])


class Circuit(Protocol):
    """Anything that can say what it looks like in Verilog."""

    def design(self) -> Design:
        """The circuit with its ports."""
        ...


def _range(width: int) -> str:
    return f"[{width - 1}:0] "


def indent(text: str) -> str:
    """Every line that is not empty moved in by four spaces."""
    return "\n".join("    " + line if line else line for line in text.strip("\n").splitlines())


def instance(
    module: str, name: str, ports: Mapping[str, str], parameters: Mapping[str, Parameter] | None = None
) -> str:
    """One instantiation of a module, with named parameters and ports."""
    values = {key: _constant(value) for key, value in (parameters or {}).items()}
    generics = f" #({_connections(values)})" if values else ""
    return f"{module}{generics} {name} ({_connections(ports)});"


def _constant(value: Parameter) -> str:
    return str(value) if isinstance(value, Literal | int) else f'"{value}"'


def sized(value: int, bits: int) -> Literal:
    """A hexadecimal constant of a stated width."""
    return Literal(f"{bits}'h{value:x}")


def signed_literal(value: int, bits: int) -> Literal:
    """A signed constant of a stated width."""
    return Literal(f"-{bits}'sd{-value}" if value < 0 else f"{bits}'sd{value}")


def _connections(values: Mapping[str, str]) -> str:
    pairs = [f".{key}({value})" for key, value in values.items()]
    line = ", ".join(pairs)
    if len(line) <= 80:
        return line
    lines, current = [], ""
    for pair in pairs:
        if current and len(current) + len(pair) > 95:
            lines.append(current)
            current = ""
        current += (" " if current else "") + pair + ","
    lines.append(current.rstrip(","))
    return "\n    " + "\n    ".join(lines) + "\n"


def wire(name: str, bits: int, *, signed: bool = False) -> str:
    """The declaration of a wire."""
    return f"wire {'signed ' if signed else ''}{_range(bits) if bits > 1 else ''}{name};"


def for_each_lane(lanes: int, lines: Sequence[str], label: str = "lane", index: str = "i") -> str:
    """A generate loop over `index` around `lines`."""
    head = f"genvar {index};\nfor ({index} = 0; {index} < {lanes}; {index} = {index} + 1) begin : {label}"
    return head + "\n" + indent("\n".join(lines)) + "\nend"


@cache
def library_modules() -> frozenset[str]:
    """Names of the modules in hwmodels/rtl/verilog, one a file."""
    folder = files("hwmodels.rtl") / "verilog"
    return frozenset(entry.name.removesuffix(".v") for entry in folder.iterdir() if entry.name.endswith(".v"))


@cache
def module_text(name: str) -> str:
    """Verilog of one library module."""
    return (files("hwmodels.rtl") / "verilog" / f"{name}.v").read_text(encoding="utf-8")


def modules_used(text: str) -> tuple[str, ...]:
    """The library modules that `text` instantiates, and those that these instantiate, in alphabetical order."""
    found: set[str] = set()
    waiting = _instantiated(text)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting |= _instantiated(module_text(name))
    return tuple(sorted(found))


def _instantiated(text: str) -> set[str]:
    code = re.sub(r"//.*", "", text)
    names = re.findall(r"^\s*(\w+)\s*(?:#\s*\(|\w+\s*\()", code, re.MULTILINE)
    return set(names) & library_modules()


def slug(*parts: object) -> str:
    """A Verilog identifier from a family name and specs."""
    text = (
        "_".join(str(part) for part in parts if str(part)).replace("-inf-nan", "_finite").replace("-", "_no_")
    )
    return re.sub(r"\W+", "_", text.replace(".", "p")).strip("_")


def signed_bits(values: Iterable[int]) -> int:
    """Bits of the two's complement word that holds all of `values`."""
    return max(max(v, ~v).bit_length() for v in values) + 1
