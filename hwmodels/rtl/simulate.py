"""Run a generated circuit in Icarus Verilog: one compilation, one run, all vectors from one file."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwmodels.rtl.design import Design, Port
from qsim.errors import UserError

Array = NDArray[Any]
TIMEOUT_S = 300
NARROW_BITS = 62  # words that int64 holds, and their masks


def has_simulator() -> bool:
    """Whether Icarus Verilog is on the PATH."""
    return shutil.which("iverilog") is not None and shutil.which("vvp") is not None


def simulate(design: Design, vectors: Mapping[str, ArrayLike], *, warmup: int = 0) -> dict[str, Array]:
    """The outputs of `design`, one row a vector.

    vectors: for every input port codes of shape [vectors] or, with several lanes, [vectors, lanes]; integers of any
        sign (two's complement), or Python integers for ports beyond 64 bits. A clocked design takes one vector a cycle,
        and its outputs are those after the rising edge.
    warmup: so many first vectors fill registers, which start undefined, and give no output.
    Returns int64 (or Python integers, beyond 63 bits) of the same shapes, signed as the port says.
    Raises UserError where Icarus Verilog is not installed, for missing or unknown ports and codes that do not fit.
    """
    if not has_simulator():
        raise UserError("simulating Verilog needs Icarus Verilog: apt-get install iverilog")
    words = _pack(design, vectors)
    with tempfile.TemporaryDirectory(prefix="qsim_rtl_") as folder:
        lines = _run(Path(folder), design, words)
    if len(lines) != len(words):
        raise UserError(f"{design.name}: {len(words)} vectors in, {len(lines)} lines out: {lines[:1]}")
    return _unpack(design, lines[warmup:])


def _pack(design: Design, vectors: Mapping[str, ArrayLike]) -> list[str]:
    """One hexadecimal word a vector, the first port in its lowest bits."""
    names = [port.name for port in design.inputs]
    if set(vectors) != set(names):
        raise UserError(f"{design.name} takes inputs {', '.join(names)}, not {', '.join(vectors)}")
    is_narrow = sum(port.width for port in design.inputs) <= NARROW_BITS
    columns = [_port_words(design, port, vectors[port.name], is_narrow) for port in design.inputs]
    if len({len(column) for column in columns}) != 1:
        raise UserError(f"{design.name}: the inputs have different numbers of vectors")
    total, position = columns[0], design.inputs[0].width
    for port, column in zip(design.inputs[1:], columns[1:], strict=True):
        total = total | (column << position)
        position += port.width
    return [f"{word:x}" for word in total.tolist()]


def _port_words(design: Design, port: Port, codes: ArrayLike, is_narrow: bool) -> Array:
    """The lanes of one port side by side: int64 where all ports together are narrow, else Python integers."""
    array = np.asarray(codes)
    if array.size == 0:
        return np.zeros(0, np.int64 if is_narrow else object)
    if array.dtype.kind not in "iubO" or array.ndim > 2:
        raise UserError(f"{design.name}.{port.name} takes integer codes [vectors, lanes], not {array.dtype}")
    array = array.astype(np.int64 if is_narrow else object).reshape(len(array), -1)
    if array.shape[1] != port.lanes:
        raise UserError(f"{design.name}.{port.name} has {port.lanes} lanes, the vectors {array.shape[1]}")
    if array.size and (array.min() < -(1 << port.bits - 1) or array.max() >= 1 << port.bits):
        raise UserError(
            f"{design.name}.{port.name} has {port.bits} bits: {array.min()} to {array.max()} do not fit"
        )
    mask = (1 << port.bits) - 1
    word = np.zeros(len(array), array.dtype)
    for lane in range(port.lanes):
        word = word | ((array[:, lane] & mask) << lane * port.bits)
    return word


def _run(folder: Path, design: Design, words: list[str]) -> list[str]:
    (folder / "vectors.hex").write_text("\n".join(words) + "\n")
    (folder / "design.v").write_text(design.verilog)
    (folder / "bench.v").write_text(testbench(design, len(words)))
    compile_command = ["iverilog", "-g2005", "-s", "bench", "-o", "bench.vvp", "bench.v", "design.v"]
    for command in (compile_command, ["vvp", "-n", "bench.vvp"]):
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)
        if result.returncode:
            message = (result.stderr or result.stdout).strip()
            raise UserError(f"{design.name}: {command[0]} failed: {' | '.join(message.splitlines()[:3])}")
    return (folder / "outputs.hex").read_text().split()


def testbench(design: Design, count: int) -> str:
    """Verilog that applies `count` vectors of vectors.hex and writes the outputs to outputs.hex."""
    inputs, outputs = (sum(port.width for port in ports) for ports in (design.inputs, design.outputs))
    connections, position = ([".clk(clk)"] if design.clocked else []), 0
    for port in design.inputs:
        connections.append(f".{port.name}(vector[{position} +: {port.width}])")
        position += port.width
    position = 0
    for port in design.outputs:
        connections.append(f".{port.name}(result[{position} +: {port.width}])")
        position += port.width
    return f"""module bench;
    reg clk = 0;
    reg [{inputs - 1}:0] vectors [0:{max(count, 1) - 1}];
    reg [{inputs - 1}:0] vector;
    wire [{outputs - 1}:0] result;
    integer file, i;
    {design.name} unit ({", ".join(connections)});
    initial begin
        $readmemh("vectors.hex", vectors);
        file = $fopen("outputs.hex", "w");
        for (i = 0; i < {count}; i = i + 1) begin
            vector = vectors[i];
            #1 clk = 1;
            #1 clk = 0;
            $fdisplay(file, "%h", result);
        end
        $fclose(file);
    end
endmodule
"""


def _unpack(design: Design, lines: list[str]) -> dict[str, Array]:
    unknown = next((i for i, line in enumerate(lines) if "x" in line.lower() or "z" in line.lower()), None)
    if unknown is not None:
        raise UserError(
            f"{design.name}: undefined output bits {lines[unknown]} in vector {unknown}; a register never set?"
        )
    is_narrow = sum(port.width for port in design.outputs) <= NARROW_BITS
    words = np.array([int(line, 16) for line in lines], np.int64 if is_narrow else object)
    outputs, position = {}, 0
    for port in design.outputs:
        mask, sign = (1 << port.bits) - 1, 1 << port.bits - 1
        lanes = [(words >> position + lane * port.bits) & mask for lane in range(port.lanes)]
        if port.signed:
            lanes = [(lane ^ sign) - sign for lane in lanes]
        codes = np.stack(lanes, axis=1) if port.lanes > 1 else lanes[0]
        outputs[port.name] = codes.astype(np.int64) if port.bits < 64 else codes
        position += port.width
    return outputs
