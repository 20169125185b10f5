"""Telling the service manager how we are (sd_notify(3)), as datagrams to its socket.

Nothing of this ever fails the daemon: who does not listen is not told.
"""

import os
import re
import socket
from typing import NamedTuple

_MICROSECONDS = 1_000_000


class Manager(NamedTuple):
    """What the service manager has told process ``pid``: its address, how often it wants a ping."""

    address: str
    watchdog_s: float | None
    pid: int


def take_manager() -> Manager | None:
    """Return the service manager, if there is one, once: the environment tells nobody again."""
    address = os.environ.pop("NOTIFY_SOCKET", "")
    microseconds = os.environ.pop("WATCHDOG_USEC", "")
    pid = os.environ.pop("WATCHDOG_PID", "")
    # Other families are for service managers outside of a VM.
    if not address.startswith(("/", "@")):
        return None
    number = re.fullmatch("[0-9]{1,20}", microseconds)
    wants_pings = number and int(microseconds) and pid in ("", str(os.getpid()))
    return Manager(address, int(microseconds) / _MICROSECONDS if wants_pings else None, os.getpid())


class Notifier:
    """Sends lines like ``READY=1``.  No method raises or waits."""

    def __init__(self, address: str) -> None:
        # An abstract address begins with a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def send(self, *lines: str) -> bool:
        """Send all in one message; return whether it was taken."""
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the socket; what is sent later is dropped."""
        self._socket.close()
