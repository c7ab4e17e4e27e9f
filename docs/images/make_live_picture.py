"""Make the picture of the live table from what a terminal really showed.

    tmux new-session -d -s live -x 80 -y 24 "orchestrator sweep sweeps/smoke.yaml"
    tmux capture-pane -e -p -t live > live.ansi        # whenever it looks as it should
    python docs/images/make_live_picture.py live.ansi docs/images/live_table.svg --title "orchestrator sweep ..."

The same capture gives the same bytes. Fonts are the reader's own: the picture loads nothing.
"""

from __future__ import annotations

import argparse
import io
import re
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")


def picture(capture: str, *, title: str, columns: int, lines: int) -> str:
    """Return the SVG of a capture with its colours, cut to `columns` and `lines`; blank lines at its end go."""
    shown = Text.from_ansi(capture.rstrip()).split("\n")[:lines]
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in shown:
        line.rstrip()
        line.truncate(columns)
        console.print(line, highlight=False, no_wrap=True)
    return console.export_svg(title=title, theme=DIMMED_MONOKAI, code_format=FORMAT, unique_id="live")


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path, help="output of tmux capture-pane -e -p")
    parser.add_argument("out", type=Path, help="the .svg to write")
    parser.add_argument("--title", default="orchestrator sweep", help="title of the window")
    parser.add_argument("--columns", type=int, default=80, help="width of the picture, characters")
    parser.add_argument("--lines", type=int, default=24, help="height of the picture at most, lines")
    given = parser.parse_args()
    text = picture(given.capture.read_text(encoding="utf-8"), title=given.title, columns=given.columns,
                   lines=given.lines)
    given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
