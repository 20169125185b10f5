"""Changing what is logged while the daemon runs: for everything, or for one VM or container."""

from __future__ import annotations

import logging

# Ids whose level is raised; more are hardly looked at by anybody.
MAX_IDS = 1000


class LevelFilter(logging.Filter):
    """Lets through what the base level allows, and more of what concerns some ids."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level
        self.raised: dict[str, int] = {}

    @property
    def lowest(self) -> int:
        """The lowest level of any record that might pass."""
        return min((self.level, *self.raised.values()))

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is wanted."""
        if record.levelno >= self.level or not self.raised:
            return record.levelno >= self.level
        fields = getattr(record, "fields", {})
        levels = (self.raised.get(fields.get(name, "")) for name in ("vm", "container"))
        return any(level is not None and record.levelno >= level for level in levels)
