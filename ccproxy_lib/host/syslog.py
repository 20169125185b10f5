"""The log's way to the system's log: one datagram per line.

Not the standard library's handler, which waits when the system's log is slow,
and prints a traceback for each line when it is gone.
"""

from __future__ import annotations

import logging
import socket

DEFAULT_PATH = "/dev/log"
IDENT = "cc-proxy"

_FACILITY_DAEMON = 3 << 3
_SEVERITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
_SEVERITY_DEBUG = 7


class SyslogHandler(logging.Handler):
    """Sends each record to the datagram socket at ``path``, and drops it where that would wait.

    The socket need not be there, nor stay there: each record looks for it anew.
    """

    def __init__(self, path: str = DEFAULT_PATH) -> None:
        super().__init__()
        self._path = path
        self._socket = _datagram_socket()

    def problem(self) -> str | None:
        """Return why nobody would get a record now, None if somebody would."""
        with _datagram_socket() as probe:
            try:
                probe.connect(self._path)
            except OSError as error:
                return error.strerror or str(error)
        return None

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record, or drop it: there is nobody left to tell."""
        try:
            priority = _FACILITY_DAEMON | severity(record.levelno)
            line = f"<{priority}>{IDENT}[{record.process}]: {self.format(record)}"
            self._socket.sendto(line.encode(), self._path)
        except OSError:
            pass
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Close the socket; what is sent later is dropped."""
        self._socket.close()
        super().close()


def _datagram_socket() -> socket.socket:
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.setblocking(False)
    return datagrams


def severity(level: int) -> int:
    """Return what syslog and the journal call a level."""
    for least, number in _SEVERITIES:
        if level >= least:
            return number
    return _SEVERITY_DEBUG
