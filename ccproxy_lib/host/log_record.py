"""What a log record says, whatever the line that it becomes: its message and its fields.

Texts come from clients, guests and agents.  Here they are cut, and tokens taken
out of them; each format then sees to it that they stay within their place.
"""

from __future__ import annotations

import logging
import re
import string
from functools import lru_cache
from typing import Any

MAX_TEXT_CHARS = 8192
# A traceback says most at its end.
MAX_TRACEBACK_CHARS = 32_768
TRACEBACK = "traceback"
HIDDEN_TOKEN = "<token>"

# What a line has anyway; a field of such a name gets a name of its own.
_TAKEN = frozenset({"time", "level", "msg", TRACEBACK})
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]")

# A token is 43 characters of these and an equals sign.
_TOKEN_CHARS = string.ascii_letters + string.digits + "-_"
_TOKEN_LENGTH = 44
_TOKEN_END = re.compile(r"=(?<=[A-Za-z0-9_-]{43}=)")

_LEVEL_WORDS = (
    (logging.CRITICAL, "fatal"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)

_plain_formatter = logging.Formatter()


def level_word(level: int) -> str:
    """Return a level's name in a line."""
    for least, word in _LEVEL_WORDS:
        if level >= least:
            return word
    return "debug"


def message_of(record: logging.LogRecord) -> str:
    """Return the record's message, fit to be shown."""
    return _shown(record.getMessage())


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the record's fields, a traceback among them, by names that a line has room for.

    Values are numbers, truth values, None, or texts fit to be shown.
    """
    given: dict[str, Any] = getattr(record, "fields", {})
    fields = {_name(name): _value(value) for name, value in given.items()}
    if record.exc_info:
        text = _plain_formatter.formatException(record.exc_info)
        if len(text) > MAX_TRACEBACK_CHARS:
            # The cut may go through a token here, too.
            text = "..." + text[-MAX_TRACEBACK_CHARS:].lstrip(_TOKEN_CHARS + "=")
        fields[TRACEBACK] = without_tokens(text)
    return fields


def without_tokens(text: str) -> str:
    """Return the text with another word in the place of each token."""
    if "=" not in text:
        return text
    for found in reversed([*_TOKEN_END.finditer(text)]):
        text = text[: found.end() - _TOKEN_LENGTH] + HIDDEN_TOKEN + text[found.end() :]
    return text


@lru_cache(256)
def _name(name: str) -> str:
    name = _NO_NAME.sub("_", name) or "_"
    return f"fields.{name}" if name in _TAKEN else name


def _value(value: Any) -> Any:
    if value is None or type(value) in (int, bool, float):
        return value
    return _shown(str(value))


def _shown(text: str) -> str:
    if len(text) <= MAX_TEXT_CHARS:
        return without_tokens(text)
    # Where the cut goes through a token, no part of that may stay.
    sure = MAX_TEXT_CHARS - _TOKEN_LENGTH
    kept = text[:sure] + text[sure:MAX_TEXT_CHARS].rstrip(_TOKEN_CHARS)
    return f"{without_tokens(kept)}... ({len(text)} characters)"
