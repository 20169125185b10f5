"""The daemon's log: its levels, its fields and its two looks.

On a terminal lines are for eyes and in colour; elsewhere they are logfmt
(``time=... level=... msg=... key=value``), as the original's are.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import IO, Any

from ccproxy_lib.errors import CommandError, UsageError
from ccproxy_lib.host.log_control import MAX_IDS, LevelFilter
from ccproxy_lib.host.syslog import SyslogHandler

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
    # Numeric verbosity of the 2.0 generation.
    "0": logging.WARNING,
    "1": logging.INFO,
    "2": logging.DEBUG,
}
ROOT = "ccproxy_lib"

_LEVEL_WORDS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "fatal",
}
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/@:+,")

_wanted = LevelFilter(logging.WARNING)

# What a terminal might obey.  JSON leaves the second half as it is.
_CONTROL = {code: f"\\u{code:04x}" for code in (*range(0x20), *range(0x7F, 0xA0))}


def parse_level(text: str) -> int:
    """Return the level of a name, in any case; UsageError if there is none."""
    try:
        return LEVELS[text.lower()]
    except KeyError:
        raise UsageError(
            f"unknown log level '{text}': use debug, info, warn, error, fatal or panic"
        ) from None


def tags(**fields: Any) -> dict[str, dict[str, Any]]:
    """Return the ``extra`` of a log call: fields such as vm, container, client."""
    return {"fields": fields}


def set_up(level: int, stream: IO[str] | None = None, syslog_path: str | None = None) -> None:
    """Send the package's log to ``stream`` (stderr by default), and to a syslog socket if given."""
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(_terminal_formatter() if target.isatty() else LogfmtFormatter())
    logger = logging.getLogger(ROOT)
    logger.handlers[:] = [handler]
    logger.propagate = False
    handler.addFilter(_wanted)
    _wanted.raised.clear()
    set_level(level)
    if syslog_path is not None:
        _add_syslog(logger, syslog_path)


def set_level(level: int) -> None:
    """Log what is at least of ``level`` from now on."""
    _wanted.level = level
    _apply()


def set_level_for(id: str, level: int | None) -> None:
    """Log more of what concerns the VM or container ``id``; None takes that back.

    Raises CommandError if that is done for too many already.
    """
    if level is None:
        _wanted.raised.pop(id, None)
    elif id not in _wanted.raised and len(_wanted.raised) >= MAX_IDS:
        raise CommandError(
            f"the log level is set for {MAX_IDS} VMs and containers already: take one back first"
        )
    else:
        _wanted.raised[id] = level
    _apply()


def level_name() -> str:
    """Return the name of the level that counts for everything."""
    return _LEVEL_WORDS.get(_wanted.level, str(_wanted.level))


def _apply() -> None:
    logging.getLogger(ROOT).setLevel(_wanted.lowest)


def _add_syslog(logger: logging.Logger, path: str) -> None:
    handler = SyslogHandler(path)
    handler.setFormatter(LogfmtFormatter(timed=False))
    handler.addFilter(_wanted)
    logger.addHandler(handler)
    if problem := handler.problem():
        logger.warning("no syslog", extra=tags(path=path, reason=problem))


class LogfmtFormatter(logging.Formatter):
    """One line per record: ``time="..." level=info msg="..." vm=c1``.

    ``timed`` is False where the reader notes the time itself.
    """

    def __init__(self, timed: bool = True) -> None:
        super().__init__()
        self._timed = timed

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback becomes one quoted field."""
        pairs: dict[str, Any] = {
            **({"time": _rfc3339(record.created)} if self._timed else {}),
            "level": _LEVEL_WORDS.get(record.levelno, "error"),
            "msg": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            pairs["traceback"] = self.formatException(record.exc_info)
        return " ".join(f"{name}={_quoted(str(value))}" for name, value in pairs.items())


def _terminal_formatter() -> logging.Formatter:
    import colorlog  # not needed, and so not loaded, where nobody looks

    class TerminalFormatter(colorlog.ColoredFormatter):
        """A line for eyes: time, level in colour, message, fields."""

        def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
            # A message may come from a guest's console, and must not play with the terminal.
            record.message = record.message.translate(_CONTROL)
            fields = getattr(record, "fields", {})
            behind = "".join(f" {name}={_quoted(str(value))}" for name, value in fields.items())
            return super().formatMessage(record) + behind

    return TerminalFormatter(
        "%(log_color)s%(asctime)s %(levelname)-7s%(reset)s %(message)s", datefmt="%H:%M:%S"
    )


def _rfc3339(created_s: float) -> str:
    whole = int(created_s)
    nanoseconds = int((created_s - whole) * 1e9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{nanoseconds:09d}Z"


def _quoted(text: str) -> str:
    if text and _PLAIN.issuperset(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False).translate(_CONTROL)
    # What is no valid Unicode, like odd bytes of a file name, would fail to be written.
    return quoted.encode(errors="backslashreplace").decode()
