"""Command lines of the commands that talk to a running daemon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from docopt import DocoptExit, docopt

from ccproxy_lib.errors import UsageError


def parse(doc: str, arguments: Sequence[str], options_first: bool = False) -> dict[str, Any] | None:
    """Return docopt's reading of ``arguments``, the command's name first.

    Prints the help and returns None if that is asked for.  Raises UsageError.
    With ``options_first``, options behind the first argument are arguments, too.
    """
    command, *rest = arguments
    # To docopt the name would be the first argument.
    usage = doc.replace(f"  cc-proxy {command} ", f"  cc-proxy-{command} ")
    try:
        options: dict[str, Any] = docopt(
            usage, rest, default_help=False, options_first=options_first
        )
    except DocoptExit:
        if {"-h", "-help", "--help"}.intersection(rest):
            options = {"--help": True}
        else:
            raise UsageError(
                f"wrong arguments for {command}: see 'cc-proxy {command} --help'"
            ) from None
    if options["--help"]:
        print(doc.strip())
        return None
    return options


def seconds(text: str, option: str) -> float:
    """Return the number of seconds that an option is given; UsageError if it is none."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"option {option} needs a number of seconds, got '{text}'")
    return value
