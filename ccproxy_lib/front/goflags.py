"""Go's way of writing flags: ``-x value``, ``-x=value``, ``--x value``, ``--x=value``.

Runtimes start the daemon with single dashes, which docopt would take for bundles
of short options.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ccproxy_lib.errors import UsageError

TRUE = frozenset({"1", "t", "true"})
FALSE = frozenset({"0", "f", "false"})


def normalize(arguments: Iterable[str], flags: Mapping[str, bool]) -> list[str]:
    """Return the arguments in the one style that docopt reads.

    ``flags`` maps each flag's name to whether it takes a value.  As in Go, flags
    end at ``--``, a flag without a value may be written ``-x=true``, and of a flag
    that is given twice the last one counts.  Raises UsageError for flags that are
    not in ``flags``, for missing values, and for arguments that are no flags.
    """
    normal: dict[str, str] = {}
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
            normal[name] = f"--{name}={value if equals else _next_value(rest, name)}"
        elif _is_true(name, value if equals else "true"):
            normal[name] = f"--{name}"
        else:
            normal.pop(name, None)
    for argument in rest:
        raise UsageError(f"unexpected argument '{argument}': see -help")
    return list(normal.values())


def _next_value(rest: Iterable[str], name: str) -> str:
    for value in rest:
        return value
    raise UsageError(f"flag -{name} needs a value: see -help")


def _is_true(name: str, value: str) -> bool:
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise UsageError(f"flag -{name} takes true or false, got '{value}'")
