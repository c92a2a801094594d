"""Files and where they come from: atomic writes, locks, Parquet and tensors, run folders, provenance."""
