"""Long tests that provoke faults: `make test-faults` runs all, `python -m tests.faults.NAME --trials N` one of them."""
