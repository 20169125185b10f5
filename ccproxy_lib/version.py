"""The version of this program and the commit it was built from."""

from __future__ import annotations

import os

VERSION = "0.1.0"

UNKNOWN_COMMIT = "unknown"

# git archive fills this in; anywhere else it stays as it is.
_ARCHIVED_COMMIT = "$Format:%h$"

# As many as git itself shows, except in huge repositories.
SHORT_DIGITS = 7

_PACKAGE = os.path.dirname(__file__)


def commit() -> str:
    """Return the short id of the commit that this code is from, or "unknown"."""
    if not _ARCHIVED_COMMIT.startswith("$"):
        return _ARCHIVED_COMMIT
    return _built_commit() or _checkout_commit() or UNKNOWN_COMMIT


def full() -> str:
    """Return version and commit, like 0.1.0-abc1234."""
    return f"{VERSION}-{commit()}"


def version_line() -> str:
    """Return the line that `cc-proxy -version` prints."""
    return f"Version: {full()}"


def _built_commit() -> str:
    return _read(os.path.join(_PACKAGE, "_commit"))


def _checkout_commit() -> str:
    """Read it off the files of git: asking git itself would keep a daemon waiting."""
    git = os.path.join(os.path.dirname(_PACKAGE), ".git")
    if os.path.isfile(git):  # of a work tree that is not the first one
        git = os.path.join(os.path.dirname(git), _read(git).removeprefix("gitdir: "))
    head = _read(os.path.join(git, "HEAD"))
    if head.startswith("ref: "):
        common = os.path.join(git, _read(os.path.join(git, "commondir")))
        head = _commit_of(common, head.removeprefix("ref: "))
    return head[:SHORT_DIGITS]


def _commit_of(git: str, ref: str) -> str:
    if commit := _read(os.path.join(git, ref)):
        return commit
    for line in _read(os.path.join(git, "packed-refs")).splitlines():
        commit, _, name = line.partition(" ")
        if name == ref:
            return commit
    return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""
