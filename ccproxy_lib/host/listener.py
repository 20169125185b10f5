"""The socket that clients connect to: where it is, making it, and leaving no trace.

A socket file that somebody listens on, or a file that is no socket, is never
touched; only the remains of a daemon that is gone are replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import time

from ccproxy_lib.errors import StartError, UsageError

DEFAULT_PATH = "/run/clear-containers/proxy.sock"
SOCKET_MODE = 0o660
DIRECTORY_MODE = 0o750
MAX_PATH_BYTES = 107
BACKLOG = 512
# How long another daemon that starts in the same directory may take over it.
LOCK_PATIENCE_S = 5.0
LOCK_RETRY_S = 0.01
_SCHEME = "unix://"


def path_of_uri(uri: str) -> str:
    """Return the path of ``unix:///path``, whose scheme may be left out; UsageError otherwise."""
    path = uri.removeprefix(_SCHEME)
    if not path or "://" in path:
        raise UsageError(f"'{uri}' is not the address of a Unix socket, like unix:///run/x.sock")
    return path


class Listener:
    """A listening Unix socket at ``path``, an absolute path, which clients know as ``uri``.

    This one belongs to whoever has made it: its file stays when it is closed.
    """

    def __init__(self, listening: socket.socket, path: str) -> None:
        self.socket = listening
        self.path = path
        self.uri = _SCHEME + path

    @property
    def gid(self) -> int | None:
        """The group of the socket's file, if there is one."""
        try:
            return os.stat(self.path).st_gid
        except OSError:
            return None

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class BoundListener(Listener):
    """A socket of our own making, whose file is removed when it is closed.

    Its file appears when it listens already, so who sees it can connect.
    Raises StartError, one sentence, if it cannot listen at ``path``.
    """

    def __init__(self, path: str) -> None:
        length = len(os.fsencode(path))
        if length > MAX_PATH_BYTES:
            raise StartError(f"socket path too long {length} (max {MAX_PATH_BYTES})")
        # The working directory may change.
        path = os.path.abspath(path)
        _make_directory(os.path.dirname(path))
        super().__init__(_claim(path), path)
        self._identity = _identity(path)

    def close(self) -> None:
        """Close the socket and unlink its file, unless another one has taken its place."""
        # In this order, as nobody takes a live socket for remains and replaces it meanwhile.
        if self._identity and _identity(self.path) == self._identity:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self._identity = None
        super().close()


def _claim(path: str) -> socket.socket:
    """Return a socket that listens at ``path``; StartError if the place is somebody else's."""
    directory = _open_directory(path)
    try:
        _lock(directory, path)
        _remove_remains(path)
        return _listen(path, _hidden_address(path, directory))
    except OSError as error:
        raise StartError(f"cannot listen on {path}: {error.strerror}") from None
    finally:
        os.close(directory)  # and with it goes the lock


def _open_directory(path: str) -> int:
    try:
        return os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StartError(f"cannot look at {path}: {error.strerror}") from None


def _lock(directory: int, path: str) -> None:
    """Keep off another daemon, which could take us for the remains that both have seen."""
    give_up_s = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            return fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up_s:
                raise StartError(
                    f"another program has locked the directory of {path}: stop that program,"
                    " or use another path"
                ) from None
        time.sleep(LOCK_RETRY_S)


def _hidden_address(path: str, directory: int) -> str:
    """Return where to bind; it is what tools show as the socket's address."""
    unique = os.urandom(4).hex()
    telling = f"{path}.{unique}"
    return telling if _fits(telling) else f"/proc/self/fd/{directory}/.{unique}"


def _listen(path: str, hidden: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind(listening, hidden)
        try:
            listening.listen(BACKLOG)
            # Unlike a rename, a link never takes the place of another file.
            os.link(hidden, path)
        finally:
            os.unlink(hidden)
    except BaseException:
        listening.close()
        raise
    return listening


def _bind(listening: socket.socket, address: str) -> None:
    # The mode must hold from the first moment on, so it can't be set after bind.
    umask = os.umask(0o777 & ~SOCKET_MODE)
    try:
        listening.bind(address)
    finally:
        os.umask(umask)


def _remove_remains(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(f"{path} exists and is no socket: remove it, or use another path")
    if _is_live(path):
        raise StartError(f"{path} is in use by a running daemon: stop it, or use another path")
    try:
        os.unlink(path)
    except OSError as error:
        raise StartError(f"cannot remove the dead socket {path}: {error.strerror}") from None


def _is_live(path: str) -> bool:
    """Whether somebody listens on a socket's file."""
    file = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path if _fits(path) else f"/proc/self/fd/{file}")
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # A full backlog, or a socket that we may not talk to, has an owner.
            return True
        finally:
            os.close(file)
        return True


def _fits(path: str) -> bool:
    return len(os.fsencode(path)) <= MAX_PATH_BYTES


def _make_directory(directory: str) -> None:
    try:
        # One by one: a mode given to makedirs does not count for the parents that it makes.
        missing = [directory]
        while not os.path.exists(missing[-1]):
            missing.append(os.path.dirname(missing[-1]))
        for each in reversed(missing[:-1]):
            with contextlib.suppress(FileExistsError):
                os.mkdir(each, DIRECTORY_MODE)
    except OSError as error:
        raise StartError(f"cannot create the directory {directory}: {error.strerror}") from None


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
