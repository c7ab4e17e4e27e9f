"""Small files of every format that `workloads.data.rows` reads, all with the same documents."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
from pyarrow import parquet

ROWS = [{"text": f"document {n}: größe, 日本語, 🙂\n" * (n % 5 + 1), "licence": ("mit", "gpl")[n % 2], "lines": n}
        for n in range(40)]


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    """Write rows in the format of the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=7)
        return path
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    packed = {".gz": gzip.compress}.get(path.suffix, bytes)
    if path.suffix == ".zst":
        with pyarrow.CompressedOutputStream(str(path), "zstd") as out:
            out.write(data)
    else:
        path.write_bytes(packed(data))
    return path
