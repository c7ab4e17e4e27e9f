"""Domain `files`: your own parquet, JSON lines or plain text files (`.gz`, `.zst`), one document a row or text file.

    axes: {domain: [files]}
    fields:
      files.paths: [/data/notes/*.jsonl.gz]     # globs; ~ and ** may be used
      files.column: text

Identity: the SHA-256 of the files' contents and their names inside the folder of the glob, so that moving them changes
nothing. For several such domains in a sweep see `workloads.data.file_domain`.
"""

from __future__ import annotations

from workloads.data.file_domain import FilesScience, file_domain

PLUGIN = file_domain(FilesScience)
