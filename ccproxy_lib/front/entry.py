"""Where every command begins: what needs no dependency, then the patch, then the rest."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE
# What can be wrong with a file, or a terminal, that the output goes to.
UNWRITABLE = frozenset({errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})

# Subcommands whose module is run with the standard library as it is.
UNPATCHED = {
    "demo": "ccproxy_lib.front.demo",
    "shim": "ccproxy_lib.front.shim",
    "exec": "ccproxy_lib.front.exec",
    "hyper": "ccproxy_lib.front.hyper",
    "events": "ccproxy_lib.front.views.events",
    "log-level": "ccproxy_lib.front.views.log_level",
    "status": "ccproxy_lib.front.views.status",
    "top": "ccproxy_lib.front.views.top",
}
PATCHED = {"agent": "ccproxy_lib.front.sandbox.main"}
# It patches when it is in the background: gevent's hub does not outlive a fork.
DAEMON = "ccproxy_lib.front.daemon"
# Runtimes know the shim as a program of its own.
SHIM_NAME = "cc-shim"

TRUE = ("", "=1", "=t", "=T", "=true", "=True", "=TRUE")
VERSION_FLAGS = frozenset(f"{dashes}version{value}" for dashes in ("-", "--") for value in TRUE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    _let_ctrl_c_end_us()
    _fill_standard_streams()
    try:
        status = _dispatch(_command_line() if arguments is None else list(arguments))
        return status or _flush()
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("ccproxy_lib"):
            raise
        _complain(
            f"the Python package {error.name} is missing:"
            " run 'make demo' in the checkout, or pip install ."
        )
        return EXIT_FAILURE
    except OSError as error:  # where the output is not buffered
        if error.errno not in UNWRITABLE or error.filename is not None:
            raise
        return _give_up(error)
    finally:
        _drop_what_nobody_takes()


def _command_line() -> list[str]:
    """Return our arguments; a link to us with the name of cc-shim is one."""
    started_as = os.path.basename(sys.argv[0])
    return (["shim"] if started_as == SHIM_NAME else []) + sys.argv[1:]


def _flush() -> int:
    """Write what is left of the output; return the exit status that this makes."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        return _give_up(error)
    return 0


def _give_up(error: OSError) -> int:
    _complain(f"the output cannot be written: {error.strerror}")
    return EXIT_FAILURE


def _drop_what_nobody_takes() -> None:
    """Make sure that output for a reader or a terminal that is gone does not fail at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _let_ctrl_c_end_us() -> None:
    """Until a command looks after SIGINT; as an exception it can get lost in an import."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _fill_standard_streams() -> None:
    """Open those that our starter has left closed, so that no socket gets their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            stream = open(number, "w" if number else "r", closefd=False)  # noqa: SIM115 (to stay)
            setattr(sys, name, stream)


def _dispatch(argv: list[str]) -> int:
    command = argv[0] if argv else ""
    if command not in UNPATCHED and VERSION_FLAGS.intersection(argv):
        from ccproxy_lib.version import version_line

        print(version_line())
        return 0
    if command in PATCHED:
        from ccproxy_lib.front.patch import patch

        patch()
        return _run(PATCHED[command], argv)
    if command in UNPATCHED:
        return _run(UNPATCHED[command], argv)
    gc.disable()  # what is loaded stays; the daemon collects again once it has started
    return _run(DAEMON, argv)


def _run(module: str, arguments: list[str]) -> int:
    from importlib import import_module

    from ccproxy_lib.errors import ProxyError, StartError, UsageError

    try:
        return int(import_module(module).main(arguments))
    except UsageError as error:
        _complain_of(error)
        return EXIT_USAGE
    except (ProxyError, StartError) as error:
        _complain_of(error)
        return EXIT_FAILURE


def _complain_of(error: Exception) -> None:
    """Print an error as one line: a VM's agent may have had a say in it."""
    from ccproxy_lib.front.views.safe import plain

    _complain(plain(error))


def _complain(text: str) -> None:
    with suppress(OSError):  # the exit status says it, too
        print(f"cc-proxy: {text}", file=sys.stderr)
