"""DeepSpeed's universal checkpoints: for any number of ranks, made from those of one number (ZeRO 1 to 3).

They hold each parameter whole, with both moments of Adam, in fp32: nothing is rounded. It needs the space of the
checkpoint twice more, and about the time of writing it.
"""

from __future__ import annotations

import io
from argparse import Namespace
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path


def to_universal(source: Path, target: Path) -> None:
    """Write the universal form of the DeepSpeed checkpoint in `source` into the folder `target`, in this process."""
    from deepspeed.checkpoint.ds_to_universal import main

    options = Namespace(  # of its command line; it has no other interface
        input_folder=str(source), output_folder=str(target), num_extract_workers=1, num_merge_workers=1,
        keep_temp_folder=False, strict=True, inject_missing_state=True,  # stages 1 and 2 lack an empty header
    )
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # its progress bars
        main(options)
