"""A file with the process id of a daemon, which is there as long as the daemon is.

The daemon keeps it locked, so that the file of one that is gone can be told
from that of one that runs, whoever has its process id by now.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from ccproxy_lib.errors import StartError

MODE = 0o644
# Longer than any process id.
_MOST_BYTES = 32


class PidFile:
    """Our process id at ``path``, until :meth:`close`.

    It appears with its content.  Raises StartError if it belongs to a daemon that
    runs, is no pid file, or cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        new = f"{self._path}.{os.urandom(4).hex()}"
        try:
            self._descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, MODE)
            try:
                self._fill()
                self._put_in_place(new)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(new)
        except OSError as error:
            raise StartError(f"cannot write the pid file {path}: {error.strerror}") from None

    def close(self) -> None:
        """Remove the file, unless another one has taken its place."""
        with contextlib.suppress(OSError):
            if _is_at(self._path, self._descriptor):
                os.unlink(self._path)
        os.close(self._descriptor)

    def _fill(self) -> None:
        os.fchmod(self._descriptor, MODE)  # whatever the umask
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def _put_in_place(self, new: str) -> None:
        while True:
            try:
                os.link(new, self._path)
            except FileExistsError:
                if not self._replace_stale(new):
                    continue  # it has just gone, or changed
            return

    def _replace_stale(self, new: str) -> bool:
        """Put ours in the place of that of a daemon that is gone; False if it is not there."""
        try:
            old = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        try:
            # Only who has locked it may replace it.
            fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(self._path, old):
                return False
            self._refuse_unless_stale(old)
            os.rename(new, self._path)
        except BlockingIOError:
            raise self._in_use(old) from None
        finally:
            os.close(old)
        return True

    def _refuse_unless_stale(self, old: int) -> None:
        is_file = stat.S_ISREG(os.fstat(old).st_mode)
        content = os.pread(old, _MOST_BYTES, 0).strip() if is_file else b"?"
        if content and not content.isdigit():
            raise StartError(
                f"{self._path} exists and is no pid file: remove it, or use another path"
            )
        # A daemon of another make has no lock on it.  In a container process ids come
        # again, so that of a daemon that is gone may be ours, or our starter's.
        if content and int(content) not in (os.getpid(), os.getppid()) and _is_proxy(int(content)):
            raise self._in_use(old)

    def _in_use(self, old: int) -> StartError:
        pid = os.pread(old, _MOST_BYTES, 0).decode(errors="replace").strip()
        return StartError(
            f"the pid file {self._path} is that of a running daemon (process {pid}): stop it,"
            " or use another path"
        )


def _is_proxy(pid: int) -> bool:
    """Whether a process runs, and is a proxy by its command line."""
    try:
        return b"cc-proxy" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
