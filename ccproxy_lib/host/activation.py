"""Sockets that the service manager has opened for us (sd_listen_fds(3)).

They stay the service manager's: it goes on listening when we have ended, so
their files are never removed.
"""

import os
import re
import socket
from typing import NamedTuple

from ccproxy_lib.errors import StartError
from ccproxy_lib.host.listener import Listener

FIRST_DESCRIPTOR = 3
# FileDescriptorName= of a socket that is not for clients, but for the debug endpoint.
DEBUG_NAMES = frozenset({"metrics", "pprof"})

_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Passed(NamedTuple):
    """Descriptors of listening sockets by their purpose."""

    clients: int | None = None
    debug: int | None = None


def take_sockets() -> Passed:
    """Take what was passed to this process, once: the environment tells nobody again.

    What this process starts does not get the descriptors.  Raises StartError if
    there are more than one for a purpose.
    """
    pid, count, names = (os.environ.pop(name, "") for name in _VARIABLES)
    if not (re.fullmatch("[0-9]{1,9}", count) and pid == str(os.getpid())):
        return Passed()
    descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))
    for descriptor in descriptors:
        _keep_from_children(descriptor)
    named = dict(zip(descriptors, names.split(":"), strict=False))
    debug = [each for each in descriptors if named.get(each) in DEBUG_NAMES]
    clients = [each for each in descriptors if each not in debug]
    return Passed(
        _only(clients, "clients, and the daemon serves one: pass one, or name the other 'metrics'"),
        _only(debug, "metrics, and the daemon serves one: pass one"),
    )


def activated_listener(descriptor: int, wanted_path: str | None = None) -> Listener:
    """Return the passed socket that clients connect to.

    ``wanted_path`` is where the user asked for it, if so.  Raises StartError if
    the socket is not what clients need, or elsewhere.
    """
    listening = listening_socket(descriptor)
    path = listening.getsockname() if listening.family == socket.AF_UNIX else None
    if listening.family != socket.AF_UNIX:
        problem = "is no Unix socket"
    elif not isinstance(path, str) or not path.startswith("/"):
        problem = "has no absolute path, which clients could be told"
    elif wanted_path is not None and os.path.realpath(wanted_path) != os.path.realpath(path):
        problem = f"is at {path}, but the daemon was told to serve {wanted_path}: leave one out"
    else:
        return Listener(listening, path)
    listening.close()
    raise StartError(f"the socket that was passed for clients {problem}")


def listening_socket(descriptor: int) -> socket.socket:
    """Return a passed socket of any family; StartError unless it is a stream's, and listens."""
    try:
        listening = socket.socket(fileno=descriptor)
    except OSError as error:
        raise StartError(
            f"descriptor {descriptor}, which was passed as a socket: {error.strerror}"
        ) from None
    is_stream = listening.type == socket.SOCK_STREAM
    if is_stream and listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return listening
    listening.close()
    problem = "does not listen" if is_stream else "is no stream socket"
    raise StartError(f"the socket that was passed as descriptor {descriptor} {problem}")


def _keep_from_children(descriptor: int) -> None:
    try:
        os.set_inheritable(descriptor, False)
    except OSError:
        raise StartError(
            f"LISTEN_FDS tells of descriptor {descriptor}, but it is not open"
        ) from None


def _only(descriptors: list[int], rest: str) -> int | None:
    if len(descriptors) > 1:
        raise StartError(f"{len(descriptors)} sockets were passed for {rest}")
    return descriptors[0] if descriptors else None
