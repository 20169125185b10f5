"""The socket that clients connect to: where it is, binding it, and leaving no trace.

A socket file that somebody listens on, or a file that is no socket, is never
touched; only the remains of a daemon that is gone are replaced.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

from ccproxy_lib.errors import StartError, UsageError

DEFAULT_PATH = "/run/clear-containers/proxy.sock"
SOCKET_MODE = 0o660
DIRECTORY_MODE = 0o750
MAX_PATH_BYTES = 107
BACKLOG = 512
_SCHEME = "unix://"


def path_of_uri(uri: str) -> str:
    """Return the path of ``unix:///path``, whose scheme may be left out; UsageError otherwise."""
    path = uri.removeprefix(_SCHEME)
    if not path or "://" in path:
        raise UsageError(f"'{uri}' is not the address of a Unix socket, like unix:///run/x.sock")
    return path


def uri_of_path(path: str) -> str:
    """Return the URI that clients are told."""
    return _SCHEME + os.path.abspath(path)


class Listener:
    """A bound and listening Unix socket that removes its file when closed.

    Raises StartError, one sentence, if it cannot listen at ``path``.
    """

    def __init__(self, path: str) -> None:
        length = len(os.fsencode(path))
        if length > MAX_PATH_BYTES:
            raise StartError(f"socket path too long {length} (max {MAX_PATH_BYTES})")
        self.path = path
        self.uri = uri_of_path(path)
        _make_directory(Path(path).parent)
        _remove_remains(path)
        self.socket = _bind(path)
        self._identity = _identity(path)

    @property
    def gid(self) -> int | None:
        """The group of the socket's file, if there is one."""
        try:
            return os.stat(self.path).st_gid
        except OSError:
            return None

    def close(self) -> None:
        """Close the socket and unlink its file, unless another one has taken its place."""
        # In this order, as nobody takes a live socket for remains and replaces it meanwhile.
        if self._identity and _identity(self.path) == self._identity:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self.socket.close()


def _make_directory(directory: Path) -> None:
    try:
        # One by one: a mode given to mkdir does not count for the parents that it makes.
        missing = [each for each in (directory, *directory.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir(DIRECTORY_MODE, exist_ok=True)
    except OSError as error:
        raise StartError(f"cannot create the directory {directory}: {error.strerror}") from None


def _remove_remains(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"cannot look at {path}: {error.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise StartError(f"{path} exists and is no socket: remove it, or use another path")
    if _is_live(path):
        raise StartError(f"{path} is in use by a running daemon: stop it, or use another path")
    try:
        os.unlink(path)
    except OSError as error:
        raise StartError(f"cannot remove the dead socket {path}: {error.strerror}") from None


def _is_live(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # A full backlog, or a socket that we may not talk to, has an owner.
            return True
        return True


def _bind(path: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode must hold from the first moment on, so it can't be set after bind.
    umask = os.umask(0o777 & ~SOCKET_MODE)
    try:
        listening.bind(path)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise StartError(f"cannot listen on {path}: {error.strerror}") from None
    finally:
        os.umask(umask)
    return listening


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
