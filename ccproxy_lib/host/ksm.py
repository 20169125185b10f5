"""The kernel's files for KSM, and a memory of the values that the host had in them.

The memory is a small file of JSON with a version.  It is there exactly while
KSM's values may be ours, so that after a crash the host's can be found again.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from ccproxy_lib.state.ksm import Settings

DEFAULT_ROOT = "/sys/kernel/mm/ksm"
MEMORY_SUFFIX = ".ksm"
MEMORY_MODE = 0o600
MEMORY_VERSION = 1
# Far more than a memory of ours has.
_MEMORY_LIMIT_BYTES = 512
_MOST = 0xFFFF_FFFF  # the kernel's unsigned int

# The scanner is switched on last, so that it never runs with values that aren't meant for it.
_WRITE_ORDER = ("pages_to_scan", "sleep_millisecs", "run")


class Ksm:
    """The values in the files under ``root``, and their memory at ``memory_path``.

    Methods raise OSError where a file can't be read or written, and ValueError
    where its content makes no sense.
    """

    def __init__(self, root: str, memory_path: str) -> None:
        # The working directory may change.
        self._root = os.path.abspath(root)
        self.memory_path = memory_path
        self._found: Settings | None = None

    def recover(self) -> bool:
        """Undo what a daemon that crashed has changed; return whether there was anything.

        A ValueError means that its memory is damaged, and nothing has been done.
        """
        try:
            boot_id, found = _read_memory(self.memory_path)
        except FileNotFoundError:
            return False
        # A reboot has undone it already, and what is there now is the host's.
        same_boot = boot_id == _boot_id()
        if same_boot:
            self._write(found)
        os.unlink(self.memory_path)
        return same_boot

    def read(self) -> Settings:
        """Return the values; OSError also if they may be read, but not written."""
        return Settings(*(_read_number(self._path(name)) for name in Settings._fields))

    def apply(self, settings: Settings) -> None:
        """Set these values, once the way back to those before the first call is on disk."""
        if self._found is None:
            found = self.read()
            _write_memory(self.memory_path, found)
            self._found = found
        self._write(settings)

    def restore(self) -> None:
        """Set the values from before the first call of :meth:`apply`, if there was one."""
        if self._found is not None:
            self._write(self._found)
            _remove(self.memory_path)
            self._found = None

    def _write(self, settings: Settings) -> None:
        current = self.read()
        for name in _WRITE_ORDER:
            value = getattr(settings, name)
            # Writing "run" waits until the scanner sleeps, which it seldom does when aggressive.
            if value != getattr(current, name):
                with open(self._path(name), "w") as file:
                    file.write(f"{value}\n")

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name)


def anonymous_pages(meminfo: str = "/proc/meminfo") -> int:
    """Return how many anonymous pages the host has; OSError or ValueError if it can't be told."""
    with open(meminfo) as file:
        for line in file:
            name, _, size = line.partition(":")
            if name == "AnonPages":
                return int(size.split()[0]) * 1024 // os.sysconf("SC_PAGE_SIZE")
    raise ValueError(f"{meminfo} has no AnonPages")


def _read_number(path: str) -> int:
    # Also for writing, so that values we couldn't change are refused before we change others.
    with open(path, "r+") as file:
        return int(file.read())


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


# ---- the memory


def _write_memory(path: str, settings: Settings) -> None:
    """Write it in one step: after a crash it is there as a whole, or not at all."""
    members = {"version": MEMORY_VERSION, "boot": _boot_id(), **settings._asdict()}
    new = f"{path}.new"
    _remove(new)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MEMORY_MODE)
    with open(descriptor, "w") as file:
        file.write(json.dumps(members) + "\n")
    os.rename(new, path)


def _read_memory(path: str) -> tuple[str, Settings]:
    # The directory may be open to others, who could put anything there.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor) as file:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise ValueError("it belongs to somebody else")
        members = json.loads(file.read(_MEMORY_LIMIT_BYTES))
    if not isinstance(members, dict) or members.get("version") != MEMORY_VERSION:
        raise ValueError(f"not of version {MEMORY_VERSION}")
    return str(members.get("boot")), Settings(*(_number(members, it) for it in Settings._fields))


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _number(members: dict[str, Any], name: str) -> int:
    value = members.get(name)
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError(f"no valid '{name}'")
    return value
