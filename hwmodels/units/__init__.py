"""Unit circuits: their structure from bit widths, and what structure costs in LUTs, gates and time."""
