"""Costs of FPGA designs: streaming dataflow and one shared array."""
