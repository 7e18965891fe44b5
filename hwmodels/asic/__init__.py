"""Costs of application-specific silicon."""
