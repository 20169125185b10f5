"""The formats of the log's lines: logfmt, JSON, and text for eyes.

Whatever a record says, it becomes one line, and nothing in it can end its field,
forge another line or play with a terminal.
"""

from __future__ import annotations

import logging
import time
from functools import lru_cache
from typing import Any

from ccproxy_lib.host.log_record import TRACEBACK, fields_of, level_word, message_of

FORMATS = ("text", "logfmt", "json")

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/@:+,")

# What a terminal might obey, and other ends of lines that some readers know.
_CONTROL_CODES = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_CONTROL: dict[int, str] = {code: f"\\u{code:04x}" for code in _CONTROL_CODES}
_IN_QUOTES = _CONTROL | {
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    ord("\b"): "\\b",
    ord("\f"): "\\f",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}


class LogfmtFormatter(logging.Formatter):
    """``time=... level=info msg="..." vm=c1``, as the original's lines are.

    ``timed`` is False where the reader notes the time itself.
    """

    def __init__(self, timed: bool = True) -> None:
        super().__init__()
        self._timed = timed

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        begin = f"time={_rfc3339(record.created)} " if self._timed else ""
        message = quoted(message_of(record))
        return f"{begin}level={level_word(record.levelno)} msg={message}{fields_text(record)}"


class JsonFormatter(logging.Formatter):
    """One JSON object: ``{"time":"...","level":"info","msg":"...","vm":"c1"}``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; numbers and truth values stay what they are."""
        members: dict[str, Any] = {
            "time": _rfc3339(record.created),
            "level": level_word(record.levelno),
            "msg": message_of(record),
            **fields_of(record),
        }
        return "{" + ",".join(f'"{name}":{_json(value)}' for name, value in members.items()) + "}"


class TextFormatter(logging.Formatter):
    """A line for eyes: time, level, message, fields; a traceback below it as it is.

    The level is in colour if ``coloured`` says so and ``NO_COLOR`` does not.
    """

    def __init__(self, coloured: bool = False) -> None:
        super().__init__()
        self._head = _coloured_head() if coloured else logging.Formatter(_head_format())

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or with a traceback several."""
        record.asctime = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{self._head.formatMessage(record)} {message_text(record)}"
        if TRACEBACK in (fields := fields_of(record)):
            rows = str(fields[TRACEBACK]).split("\n")
            return "\n".join([line, *(_writable(row.translate(_CONTROL)) for row in rows)])
        return line


def message_text(record: logging.LogRecord) -> str:
    """Return the message and behind it the fields, as one line without time and level."""
    # Not in quotes, so escapes stand for themselves only.
    message = _writable(message_of(record).translate(_CONTROL))
    return message + fields_text(record, without=TRACEBACK)


def fields_text(record: logging.LogRecord, without: str = "") -> str:
    """Return the fields as logfmt, a space before each."""
    fields = fields_of(record).items()
    return "".join(f" {name}={quoted(str(value))}" for name, value in fields if name != without)


def quoted(text: str) -> str:
    """Return the text as a value of logfmt: as it is, or in quotes as in JSON."""
    return text if text and _PLAIN.issuperset(text) else _in_quotes(text)


def _in_quotes(text: str) -> str:
    return f'"{_writable(text.translate(_IN_QUOTES))}"'


def _writable(text: str) -> str:
    """What is no valid Unicode, like odd bytes of a file name, would fail to be written."""
    return text.encode(errors="backslashreplace").decode()


def _json(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and value - value == 0):
        return repr(value)
    return _in_quotes(str(value))


def _head_format() -> str:
    return "%(asctime)s %(levelname)-7s"


def _coloured_head() -> logging.Formatter:
    import colorlog  # not needed, and so not loaded, where nobody looks

    return colorlog.ColoredFormatter(f"%(log_color)s{_head_format()}%(reset)s")


def _rfc3339(created_s: float) -> str:
    whole = int(created_s)
    return f"{_date_and_time(whole)}.{int((created_s - whole) * 1e9):09d}Z"


@lru_cache(1)
def _date_and_time(whole_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole_s))
