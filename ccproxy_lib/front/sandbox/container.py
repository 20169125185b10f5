"""A container's processes."""

from __future__ import annotations

from ccproxy_lib.errors import CommandError
from ccproxy_lib.front.sandbox import descendants
from ccproxy_lib.front.sandbox.process import Process


class Container:
    """Processes that end with the first of them, as those of a PID namespace do."""

    def __init__(self, first: Process) -> None:
        self.first = first
        self._processes = [first]

    @property
    def running(self) -> bool:
        """Whether the first process runs."""
        return self.first.running

    def add(self, process: Process) -> None:
        """Take in a process that was started later."""
        self._processes.append(process)

    def find(self, id: str) -> Process:
        """Return the process with this id; CommandError if there is none."""
        for process in self._processes:
            if process.spec.id == id and process.running:
                return process
        raise CommandError(f"unknown process: {id}")

    def members(self) -> list[descendants.Entry]:
        """Return all that runs in the container, what its processes forked included."""
        return descendants.in_sessions({process.pid for process in self._processes})

    def signal_all(self, number: int) -> None:
        """Signal all that runs in the container."""
        descendants.send_signal(number, self.members())
