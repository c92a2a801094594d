"""Ways in which a file can be bad, done to one that is good."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

KINDS = ("missing", "empty", "truncated", "garbage", "foreign", "flipped")


def spoil(path: Path, kind: str) -> None:
    """Make a file bad in one of KINDS."""
    data = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "foreign":
        _foreign(path)
    elif kind == "flipped":
        place = _where_it_counts(path, data)
        path.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
    else:
        path.write_bytes(
            {"empty": b"", "truncated": data[: len(data) * 2 // 3], "garbage": b"\xff\xd8\x00x" * 99}[kind]
        )


def _foreign(path: Path) -> None:
    """A good file of the same format that is not what it should be."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"x": [1, 2, 3]}), path)
    elif path.suffix == ".safetensors":
        save_file({"weight": torch.zeros(3)}, path)
    elif path.suffix == ".png":
        path.write_bytes(b"GIF89a" + bytes(99))
    else:
        path.write_text("[1, 2, 3]")


def _where_it_counts(path: Path, data: bytes) -> int:
    """A byte of what the file says, not of what it could do without (a statistic, a gap)."""
    if path.suffix != ".parquet":
        return len(data) - 1 if path.suffix == ".safetensors" else len(data) // 2
    groups = pq.read_metadata(path)
    if groups.num_rows == 0:
        return len(data) - 6  # the length of the footer
    # The last byte of the first column's pages.
    first = groups.row_group(0).column(0)
    start = first.data_page_offset if first.dictionary_page_offset is None else first.dictionary_page_offset
    return start + first.total_compressed_size - 1
