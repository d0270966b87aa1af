"""How fast, how big: every figure the README or docs/benchmarks.md states is printed by `make bench`."""
