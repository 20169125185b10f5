"""Lines onto paper: a terminal gets colours and its width, all else plain text, whole."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from ccproxy_lib.front.views.picture import Frame

# Values of $TERM whose terminals know no escape sequences.
UNABLE = ("dumb", "unknown", "", None)
# The prompt that follows needs a line.
_PROMPT_LINES = 1


def prepare() -> bool:
    """Let what the output's encoding lacks do no harm; return whether it is a terminal."""
    terminal = sys.stdout.isatty()
    # On a terminal each character keeps to its cell.
    sys.stdout.reconfigure(errors="replace" if terminal else "backslashreplace")  # type: ignore[union-attr]
    return terminal


def unable() -> bool:
    """Return whether the terminal can show nothing but plain text."""
    return os.environ.get("TERM") in UNABLE


def frame(everything: bool, hint: str) -> Frame:
    """Return what the output has room for."""
    if not sys.stdout.isatty():
        return Frame()
    columns, rows = shutil.get_terminal_size()
    return Frame(columns, None if everything else max(rows - _PROMPT_LINES, 1), hint)


def write(lines: Iterable[Text]) -> None:
    """Write the lines to the standard output."""
    if not sys.stdout.isatty() or unable():
        sys.stdout.writelines(f"{line.plain}\n" for line in lines)
        return
    console = Console(highlight=False)
    for line in lines:
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
