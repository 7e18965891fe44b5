"""Synthesize unit circuits with Yosys: from a grid of units to a table of cells that the cost models are fitted to.

yosys    the tool, its script, one circuit in and its cells out     grid    which units
sweep    all units of a grid, in parallel, each kept once done      arithmetic_rows.v    how sums and products map
"""
