"""The daemon's log: its levels, its fields, and where its lines go.

On a terminal they are text for eyes, in colour; under systemd entries of the
journal, with fields; elsewhere logfmt (``time=... level=... msg=... key=value``),
as the original's are.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import IO, Any

from ccproxy_lib.errors import UsageError
from ccproxy_lib.host.line_writer import LineHandler, LineWriter
from ccproxy_lib.host.log_control import Levels
from ccproxy_lib.host.log_formats import FORMATS, JsonFormatter, LogfmtFormatter, TextFormatter
from ccproxy_lib.host.syslog import SyslogHandler, severity

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
JOURNAL_PATH = "/run/systemd/journal/socket"

_levels = Levels(logging.getLogger(ROOT))


def parse_level(text: str) -> int:
    """Return the level of a name, in any case; UsageError if there is none."""
    try:
        return LEVELS[text.lower()]
    except KeyError:
        raise UsageError(
            f"unknown log level '{text}': use debug, info, warn, error, fatal or panic"
        ) from None


def name_of(level: int) -> str:
    """Return the name of a level, of several the one that LogControl takes."""
    return next(name for name, each in LEVELS.items() if each >= level)


def parse_format(text: str | None) -> str | None:
    """Return the format of a name, in any case; UsageError if there is none."""
    if text is None or text.lower() in FORMATS:
        return text and text.lower()
    raise UsageError(f"unknown log format '{text}': use text, logfmt or json")


def tags(**fields: Any) -> dict[str, dict[str, Any]]:
    """Return the ``extra`` of a log call: fields such as vm, container, client."""
    return {"fields": fields}


# ---- levels


def set_level(level: int | str) -> None:
    """Set the level of the whole log; UsageError for an unknown name."""
    _levels.set_base(_level(level))


def set_level_for(id: str, level: int | str | None) -> None:
    """Log more of one VM or container, None to take that back.

    Raises UsageError for an unknown name, CommandError if too many have such a level.
    """
    _levels.set_own(id, None if level is None else _level(level))


def level_name() -> str:
    """Return the level of the whole log, as ``-log`` takes it."""
    return name_of(_levels.base)


def wants(level: int, *ids: str) -> bool:
    """Whether records of a level are wanted that concern these VMs or containers."""
    return _levels.wants(level, *ids)


def _level(level: int | str) -> int:
    return parse_level(level) if isinstance(level, str) else level


# ---- where it goes


def set_up(
    level: int,
    stream: IO[str] | None = None,
    syslog_path: str | None = None,
    *,
    line_format: str | None = None,
    detached: bool = False,
    journal_path: str = JOURNAL_PATH,
) -> None:
    """Send the package's log to ``stream`` (stderr by default), and to a syslog socket if given.

    If stderr leads to the journal, and no format is asked for, entries with fields
    go there instead.  ``detached`` is for a daemon whose stderr nobody reads: its
    log goes to the journal, where there is one, and to syslog.
    """
    logger = logging.getLogger(ROOT)
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = False
    _levels.forget_own()
    set_level(level)
    if detached:
        main = _journal_handler(journal_path)
    else:
        main = _stream_handler(stream or sys.stderr, line_format, journal_path)
    if main is not None:
        _add(logger, main)
    has_journal = hasattr(main, "fallback")
    if syslog_path is not None and not (has_journal and _is_beside(syslog_path, journal_path)):
        _add_syslog(logger, syslog_path)


def writer() -> LineWriter | None:
    """Return what writes to stderr, if that may have to wait for its reader."""
    for handler in logging.getLogger(ROOT).handlers:
        lines = getattr(handler, "fallback", handler)
        if isinstance(lines, LineHandler):
            return lines.writer
    return None


def _add(logger: logging.Logger, handler: logging.Handler) -> None:
    handler.addFilter(_levels.filter)
    logger.addHandler(handler)


def _stream_handler(stream: IO[str], line_format: str | None, journal_path: str) -> logging.Handler:
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a stream in memory, or one that is closed
        handler: logging.Handler = logging.StreamHandler(stream)
    else:
        if line_format is None and (journal := _journal_behind(descriptor, journal_path)):
            return journal
        handler = LineHandler(descriptor)
    handler.setFormatter(_formatter(line_format, stream.isatty()))
    return handler


def _formatter(line_format: str | None, terminal: bool) -> logging.Formatter:
    if line_format == "json":
        return JsonFormatter()
    if line_format == "text" or (line_format is None and terminal):
        return TextFormatter(coloured=terminal)
    return LogfmtFormatter()


def _journal_behind(descriptor: int, path: str) -> logging.Handler | None:
    """Return the way to the journal if that is where a descriptor leads."""
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return None
    from ccproxy_lib.host.journal import JournalHandler, leads_to_journal

    if not leads_to_journal(descriptor, stream):
        return None
    # systemd takes the number for the priority of the line.
    lines = LineHandler(descriptor, prefix=lambda level: f"<{severity(level)}>")
    lines.setFormatter(LogfmtFormatter(timed=False))
    return JournalHandler(path, lines)


def _journal_handler(path: str) -> logging.Handler | None:
    """Return the way to the journal if there is one."""
    if not os.path.exists(path):
        return None
    from ccproxy_lib.host.journal import JournalHandler

    return JournalHandler(path)


def _is_beside(syslog_path: str, journal_path: str) -> bool:
    """Whether syslog's socket is one of the journal's, which would get everything twice."""
    return os.path.dirname(os.path.realpath(syslog_path)) == os.path.dirname(journal_path)


def _add_syslog(logger: logging.Logger, path: str) -> None:
    handler = SyslogHandler(path)
    handler.setFormatter(LogfmtFormatter(timed=False))
    _add(logger, handler)
    if problem := handler.problem():
        logger.warning("no syslog", extra=tags(path=path, reason=problem))
