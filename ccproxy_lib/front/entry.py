"""Where every command begins: what needs no dependency, then the patch, then the rest."""

from __future__ import annotations

import sys
from collections.abc import Sequence

EXIT_FAILURE = 1
EXIT_USAGE = 2

# Subcommands whose module is run with the standard library as it is.
UNPATCHED = {"demo": "ccproxy_lib.front.demo"}
PATCHED = {"agent": "ccproxy_lib.front.sandbox.main"}
DAEMON = "ccproxy_lib.front.daemon"

VERSION_FLAGS = frozenset({"-version", "--version", "-version=true", "--version=true"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    command = argv[0] if argv else ""
    if command not in UNPATCHED and VERSION_FLAGS.intersection(argv):
        from ccproxy_lib.version import version_line

        print(version_line())
        return 0
    try:
        if command in UNPATCHED:
            return _run(UNPATCHED[command], argv)
        _patch()
        if command in PATCHED:
            return _run(PATCHED[command], argv)
        return _run(DAEMON, argv)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("ccproxy_lib"):
            raise
        print(
            f"cc-proxy: the Python package {error.name} is missing:"
            " run 'make demo' in the checkout, or pip install .",
            file=sys.stderr,
        )
        return EXIT_FAILURE


def _patch() -> None:
    """Make sockets and sleeping cooperative; nothing else of the library waits in here."""
    import gevent
    from gevent import monkey

    gevent.config.track_greenlet_tree = False
    monkey.patch_socket(dns=False)
    monkey.patch_time()


def _run(module: str, arguments: list[str]) -> int:
    from importlib import import_module

    from ccproxy_lib.errors import StartError, UsageError

    try:
        return int(import_module(module).main(arguments))
    except UsageError as error:
        print(f"cc-proxy: {error}", file=sys.stderr)
        return EXIT_USAGE
    except StartError as error:
        print(f"cc-proxy: {error}", file=sys.stderr)
        return EXIT_FAILURE
