"""Names of places in the code, as stacks and profiles show them."""

from __future__ import annotations

import functools
import sys
from pathlib import PurePath
from types import CodeType

# The longest first, as one may be within another.
_ROOTS = tuple(sorted({root.rstrip("/") + "/" for root in sys.path if root}, key=len, reverse=True))


@functools.cache
def file_of(code: CodeType) -> str:
    """Return the file that a piece of code is from, like ``ccproxy_lib/service/stream.py``."""
    path = code.co_filename
    for root in _ROOTS:
        if path.startswith(root):
            return path[len(root) :]
    return PurePath(path).name


@functools.cache
def name_of(code: CodeType) -> str:
    """Return a piece of code's name, with its class where Python knows that (3.11)."""
    return getattr(code, "co_qualname", code.co_name).replace(".<locals>", "")
