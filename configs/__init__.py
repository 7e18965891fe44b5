"""Hydra config groups, found as pkg://configs; the files themselves are YAML."""
