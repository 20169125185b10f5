"""What the programs under test inherit of signals, however the tests were started."""

from __future__ import annotations

import signal
import sys

# Those that Python ignores itself; subprocess restores them.
PYTHONS_OWN = {signal.SIGPIPE, signal.SIGXFSZ}
# Runs the command behind it as a careless starter does.
CARELESS = (
    *(sys.executable, "-c"),
    """
import os, signal, sys
for number in signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
os.execv(sys.argv[1], sys.argv[1:])
""",
)
# Prints the masks of what is ignored and what is held back.
TELLER = ("sed", "-n", r"s/^Sig\(Ign\|Blk\):\t//p", "/proc/self/status")
NOTHING: list[set[int]] = [set(), set()]


def told(output: bytes) -> list[set[int]]:
    """Return which signals TELLER has called held back and ignored.

    Those that libc keeps for itself are not ours to set; make ignores one of them.
    """
    masks = [int(mask, 16) for mask in output.split()]
    return [{n for n in signal.valid_signals() if mask >> (n - 1) & 1} for mask in masks]


def forget_inherited() -> None:
    """Let programs start as from a terminal.

    A script's background job ignores SIGINT and SIGQUIT, nohup's SIGHUP, and all that
    they start does, too.  A handler has the same effect on us, and ends with exec.
    """
    for number in signal.valid_signals() - PYTHONS_OWN:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
