"""What is done in a program's place when it is killed with SIGKILL."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

DONE = b"."


class LastWill:
    """While it is entered, a child process waits for this program's end.

    If that comes without this context's, ``act`` is called in the child.  To be
    entered before there are threads, and before connections that must not outlive
    the program.  The child holds no output of ours open, but stdin.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def __enter__(self) -> LastWill:
        reader, self._writer = os.pipe()
        # What is meant for the program and its terminal is not meant for the child.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._pid = os.fork()
        if not self._pid:
            try:
                os.close(self._writer)
                self._watch(reader)
            finally:
                os._exit(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(reader)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):  # somebody has killed the child
            os.write(self._writer, DONE)
        os.close(self._writer)
        os.waitpid(self._pid, 0)

    def _watch(self, reader: int) -> None:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for output in (1, 2):
            os.dup2(nowhere, output)
        if not os.read(reader, 1):
            self._act()
