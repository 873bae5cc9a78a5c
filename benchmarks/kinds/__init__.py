"""Models that nothing in drmguard made, for benchmarks/other_kinds.py, in plain PyTorch."""
