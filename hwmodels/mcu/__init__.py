"""Costs of microcontrollers."""
