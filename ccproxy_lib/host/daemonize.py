"""Going to the background, while the process that was started waits for how that goes.

One fork and a session of our own do: the daemon opens no terminal that it could
get as its controlling one, and the starter learns from its child how it ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable

from ccproxy_lib.errors import StartError

# The daemon is given up when its socket does not answer by then.
PATIENCE_S = 60.0
UMASK = 0o022

_SERVING = b"\n"
_STANDARD = (0, 1, 2)


def detach() -> int | Starter:
    """Go on in a child process, which gets the starter to report to.

    In the process that called, returns the exit status that it must end with, once
    the child serves (0) or has ended (its status; a reason is on stderr).  To be
    called before anything of gevent is loaded, whose hub does not outlive a fork.
    """
    try:
        reader, writer = os.pipe()
        child = os.fork()
    except OSError as error:
        raise StartError(f"cannot go to the background: {error.strerror}") from None
    if child:
        os.close(writer)
        return _wait(child, reader)
    os.close(reader)
    os.setsid()
    os.umask(UMASK)
    # A reason not to start still has to be read.
    _to_null(0, 1)
    _close_what_is_not_ours()
    return Starter(writer)


class Starter:
    """The process that waits for us to serve; to be told by the daemon."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def serving(self, status: Callable[[], str]) -> None:
        """Let the starter end well, and leave the place where it was."""
        if directory := os.environ.get("TMPDIR"):
            os.environ["TMPDIR"] = os.path.abspath(directory)
        os.chdir("/")
        _to_null(2)
        with contextlib.suppress(OSError):  # it has not waited
            os.write(self._pipe, _SERVING)
        os.close(self._pipe)

    def stopping(self) -> None:
        """It is gone by now, or learns it from our end."""


def _wait(child: int, reader: int) -> int:
    with open(reader, "rb", buffering=0) as pipe:
        if not select.select([pipe], [], [], PATIENCE_S)[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise StartError(f"the daemon's socket did not answer within {PATIENCE_S:g} s")
        if pipe.read(1) == _SERVING:
            return 0
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status > 0:
        return status
    how = f"was ended by {_name(-status)}" if status else "ended"
    raise StartError(f"the daemon {how} before its socket answered")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most of those for real time have none
        return f"signal {number}"


def _close_what_is_not_ours() -> None:
    """Close what we have inherited: somebody may wait for the end of it."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # that of the listing itself
            # What Python has opened, and what we have taken, is not for children.
            if descriptor not in _STANDARD and os.get_inheritable(descriptor):
                os.close(descriptor)


def _to_null(*descriptors: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    os.close(null)
