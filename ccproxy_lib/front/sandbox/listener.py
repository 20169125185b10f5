"""A listening AF_UNIX socket and its file."""

from __future__ import annotations

import os
import stat

from gevent import socket

from ccproxy_lib.errors import StartError


class Listener:
    """Listens at once; shows up under its path with :meth:`publish`.

    Whoever waits for the file can therefore connect as soon as it is there.
    Raises StartError.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._hidden_path = f"{path}~"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _remove_dead_socket(path)
            self.socket.bind(self._hidden_path)
            self.socket.listen(1)
        except OSError as error:
            raise StartError(f"cannot listen on {path}: {error.strerror or error}") from None
        self._identity = _identity(self._hidden_path)

    def publish(self) -> None:
        """Make the file appear; StartError if something is there by now."""
        try:
            os.link(self._hidden_path, self.path)
        except OSError as error:
            raise StartError(f"cannot listen on {self.path}: {error.strerror}") from None
        finally:
            os.unlink(self._hidden_path)

    def remove(self) -> None:
        """Remove our file, unless another one has taken its place."""
        self.socket.close()
        for path in (self._hidden_path, self.path):
            try:
                if _identity(path) == self._identity:
                    os.unlink(path)
            except FileNotFoundError:
                pass


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _remove_dead_socket(path: str) -> None:
    """Remove the file that an agent left behind that had no chance to clean up."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise StartError(f"{path} exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise StartError(f"{path} is in use")
