"""Where settings come from: flags win over the environment, and that over a file."""

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ccproxy_lib.front.goflags import is_true, parse

DEFAULT_CONFIG = "/etc/clear-containers/cc-proxy.conf"
# Not about what a daemon does, but about this one run.
ONLY_FLAGS = frozenset({"help", "h", "version", "check-config"})

_PREFIX = "CC_PROXY_"
_OTHER_NAMES = {"log": "CC_PROXY_LOG_LEVEL"}


class Given(NamedTuple):
    """One setting: the flag that it is for, its value as it was written, where that was."""

    flag: str
    value: str
    origin: str


def from_flags(arguments: Iterable[str], flags: Mapping[str, bool]) -> dict[str, Given]:
    """Return the settings of a command line; UsageError if it is wrong."""
    values = parse(arguments, flags)
    # Two names for one thing.
    old_level = values.pop("v", "")
    if level := values.pop("log", "") or old_level:
        values["log"] = level
    return {flag: Given(flag, value, f"-{flag}") for flag, value in values.items()}


def from_environment(environment: Mapping[str, str], flags: Mapping[str, bool]) -> dict[str, Given]:
    """Return the settings of the environment; a variable that is empty sets nothing."""
    found = {}
    for flag in flags:
        variable = variable_of(flag)
        if variable and (value := environment.get(variable)):
            found[flag] = Given(flag, value, variable)
    return found


def variable_of(flag: str) -> str | None:
    """Return the environment variable of a flag, if it has one."""
    if flag in ONLY_FLAGS or flag == "v":
        return None
    return _OTHER_NAMES.get(flag) or _PREFIX + flag.upper().replace("-", "_")


def from_file(path: Given | None, flags: Mapping[str, bool]) -> dict[str, Given]:
    """Return the settings of the file that was named, or of the default one if that is there.

    Raises UsageError for a file that cannot be read, or has something unknown in it.
    """
    if path is None and not os.path.lexists(DEFAULT_CONFIG):
        return {}
    from ccproxy_lib.front.config_file import read

    return read(DEFAULT_CONFIG if path is None else path.value, flags)


def is_set(given: Mapping[str, Given], flag: str) -> bool:
    """Whether a flag that takes no value is given and true; UsageError if it says neither."""
    return flag in given and is_true(flag, given[flag].value)


def merge(*sources: Mapping[str, Given]) -> dict[str, Given]:
    """Return what counts of several sources, of which later ones win."""
    merged: dict[str, Given] = {}
    for source in sources:
        if "uri" in source:
            # Who starts a proxy for one VM knows where; what is said for all must not interfere.
            merged.pop("socket-path", None)
        merged |= source
    return merged
