"""Benchmarks that print a table and write JSON, each against its baseline in the same run."""
