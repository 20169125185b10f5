"""The log's way to systemd's journal: one datagram per record, with its fields.

The native protocol, https://systemd.io/JOURNAL_NATIVE_PROTOCOL: a field is
``NAME=value`` and a newline, or, where the value has a newline in it, the name, a
newline, the length as 64 bits in little endian, the value, a newline.
"""

from __future__ import annotations

import array
import errno
import logging
import os
import re
import socket
from functools import lru_cache

from gevent.monkey import get_original

from ccproxy_lib.host.log_formats import message_text
from ccproxy_lib.host.log_record import fields_of, message_of
from ccproxy_lib.host.syslog import IDENT, severity

# A datagram that is too long for the socket goes as a file instead.
TOO_LONG = (errno.EMSGSIZE, errno.ENOBUFS)

_FACILITY_DAEMON = 3
_NO_NAME = re.compile(r"[^A-Z0-9_]")
# Of the journal's own limit of 64.
_MAX_NAME_CHARS = 60


def leads_to_journal(descriptor: int, stream: str | None) -> bool:
    """Whether ``$JOURNAL_STREAM`` (device:inode) says that a descriptor leads to the journal."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


def encode(fields: dict[str, str]) -> bytes:
    """Return one entry; names must be as the journal wants them."""
    return b"".join(_encode_field(name, value) for name, value in fields.items())


def _encode_field(name: str, value: str) -> bytes:
    data = value.encode(errors="backslashreplace")
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode(), data)
    return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)


class JournalHandler(logging.Handler):
    """Sends each record to the journal; ``fallback`` gets those that it does not take at once."""

    def __init__(self, path: str, fallback: logging.Handler | None = None) -> None:
        super().__init__()
        self.fallback = fallback
        self._path = path
        # Not gevent's, which has no use here and would make a hub.
        self._socket: socket.socket = get_original("socket", "socket")(
            socket.AF_UNIX, socket.SOCK_DGRAM
        )
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; never waits."""
        try:
            self._send(encode(entry_of(record)))
        except OSError:
            if self.fallback is not None:
                self.fallback.handle(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Close the socket, and the fallback behind it."""
        self._socket.close()
        if self.fallback is not None:
            self.fallback.close()
        super().close()

    def _send(self, entry: bytes) -> None:
        try:
            self._socket.sendto(entry, self._path)
        except OSError as error:
            if error.errno not in TOO_LONG:
                raise
            self._send_as_file(entry)

    def _send_as_file(self, entry: bytes) -> None:
        import fcntl

        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        file = os.memfd_create(IDENT, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(file, "wb", closefd=False) as writer:
                writer.write(entry)
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
            passed = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))
            self._socket.sendmsg([], [passed], 0, self._path)
        finally:
            os.close(file)


def entry_of(record: logging.LogRecord) -> dict[str, str]:
    """Return the fields of a record's entry.

    ``MESSAGE`` is for eyes and so has the record's fields behind it; ``CC_MESSAGE``
    has not, and there is a ``CC_...`` for each field.
    """
    own = {_journal_name(name): str(value) for name, value in fields_of(record).items()}
    return own | {
        "MESSAGE": message_text(record),
        "PRIORITY": str(severity(record.levelno)),
        "SYSLOG_IDENTIFIER": IDENT,
        "SYSLOG_FACILITY": str(_FACILITY_DAEMON),
        "CC_MESSAGE": message_of(record),
    }


@lru_cache(256)
def _journal_name(name: str) -> str:
    return "CC_" + _NO_NAME.sub("_", name.upper())[:_MAX_NAME_CHARS]
