"""Benchmarks: each is a command that prints its figures beside a baseline of the same run."""
