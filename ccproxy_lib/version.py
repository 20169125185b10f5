"""The version of this program and the commit it was built from."""

from __future__ import annotations

import os

VERSION = "0.1.0"

UNKNOWN_COMMIT = "unknown"

# git archive fills this in; anywhere else it stays as it is.
_ARCHIVED_COMMIT = "$Format:%h$"

_GIT_TIMEOUT_S = 2.0

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
    try:
        with open(os.path.join(_PACKAGE, "_commit"), encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


def _checkout_commit() -> str:
    git_dir = os.path.join(os.path.dirname(_PACKAGE), ".git")
    if not os.path.exists(git_dir):
        return ""
    # An installed daemon never gets here, so it need not load this module.
    import subprocess

    try:
        # Naming the git directory keeps git from searching upwards and from
        # obeying GIT_DIR, so no other repository's commit can be taken for ours.
        answer = subprocess.run(
            ["git", f"--git-dir={git_dir}", "rev-parse", "--short", "HEAD"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_GIT_TIMEOUT_S,
            encoding="utf-8",
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()
