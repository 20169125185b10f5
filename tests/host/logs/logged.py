"""What is logged, as text and as fields."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

import logfmtkv

from ccproxy_lib.host import logs

log = logging.getLogger("ccproxy_lib.tests")


def logged(write: Callable[[], None], level: int = logging.DEBUG, **options: Any) -> str:
    stream = io.StringIO()
    logs.set_up(level, stream, **options)
    write()
    return stream.getvalue()


def fields(line: str) -> dict[str, Any]:
    """Read a line of logfmt as the strictest of readers does."""
    return logfmtkv.parse(line, strict=True)
