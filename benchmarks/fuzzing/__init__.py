"""Parts of `benchmarks/safety_fuzz.py`: made-up signals, hostile plans, a plain checker, switching under faults."""
