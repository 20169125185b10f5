"""What this process takes of the machine."""

from __future__ import annotations

import os


def rss_bytes() -> int | None:
    """Return the memory that is in use, None where the platform does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
