"""Go's way of writing flags: ``-x value``, ``-x=value``, ``--x value``, ``--x=value``.

Runtimes start the daemon with single dashes, which others would take for bundles
of short options.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ccproxy_lib.errors import UsageError

TRUE = frozenset({"1", "t", "true"})
FALSE = frozenset({"0", "f", "false"})


def parse(arguments: Iterable[str], flags: Mapping[str, bool]) -> dict[str, str]:
    """Return the value of each flag that is given; without a value it is ``true`` or ``false``.

    ``flags`` maps each flag's name to whether it takes a value.  As in Go, flags
    end at ``--``, a flag without a value may be written ``-x=true``, and of a flag
    that is given twice the last one counts.  Raises UsageError for flags that are
    not in ``flags``, for missing values, and for arguments that are no flags.
    """
    values: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            break
        if argument == "-" or not argument.startswith("-"):
            raise UsageError(f"unexpected argument '{argument}': see -help")
        name, equals, value = argument[2 if argument.startswith("--") else 1 :].partition("=")
        if name not in flags:
            raise UsageError(f"unknown flag {argument.partition('=')[0]}: see -help")
        if flags[name]:
            values[name] = value if equals else _next_value(rest, name)
        else:
            values[name] = "true" if is_true(name, value if equals else "true") else "false"
    for argument in rest:
        raise UsageError(f"unexpected argument '{argument}': see -help")
    return values


def _next_value(rest: Iterable[str], name: str) -> str:
    for value in rest:
        return value
    raise UsageError(f"flag -{name} needs a value: see -help")


def is_true(name: str, value: str) -> bool:
    """Whether the value of a flag that takes none says true; UsageError if it says neither."""
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise UsageError(f"flag -{name} takes true or false, got '{value}'")
