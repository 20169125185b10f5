"""Changing what is logged while the daemon runs: for all, or more for one VM or container."""

from __future__ import annotations

import logging

from ccproxy_lib.errors import CommandError

# How many VMs and containers may have a level of their own.
MAX_IDS = 1000


class Levels:
    """The levels of one logger.

    While nobody has a level of its own, the logger itself refuses what is not
    wanted, and :meth:`filter` has nothing to do.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self.base = logging.WARNING
        self._logger = logger
        self._own: dict[str, int] = {}

    def set_base(self, level: int) -> None:
        """Set the level for all."""
        self.base = level
        self._apply()

    def set_own(self, id: str, level: int | None) -> None:
        """Set the level of a VM or container, None to take that back; CommandError if too many."""
        if level is None:
            self._own.pop(id, None)
        elif id in self._own or len(self._own) < MAX_IDS:
            self._own[id] = level
        else:
            raise CommandError(
                f"{MAX_IDS} VMs and containers have a log level of their own and no more may:"
                ' take one back with the level "default"'
            )
        self._apply()

    def forget_own(self) -> None:
        """Let the level for all count for everybody."""
        self._own.clear()
        self._apply()

    def wants(self, level: int, *ids: str) -> bool:
        """Whether a record is wanted that concerns these VMs or containers."""
        own = self._own
        return level >= self.base or any(id in own and level >= own[id] for id in ids)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a handler should take a record."""
        if not self._own or record.levelno >= self.base:
            return True
        fields = getattr(record, "fields", {})
        ids = (fields.get("vm"), fields.get("container"))
        return self.wants(record.levelno, *(id for id in ids if id))

    def _apply(self) -> None:
        self._logger.setLevel(min(self.base, *self._own.values(), logging.CRITICAL))
