"""Files like those of KSM, in a directory of the test's own."""

from __future__ import annotations

from pathlib import Path

from ccproxy_lib.state.ksm import Settings

HOSTS = Settings(0, 100, 20)


def make(directory: Path) -> Path:
    """Make the files, with the host's values."""
    root = directory / "ksm"
    root.mkdir()
    for name, value in HOSTS._asdict().items():
        (root / name).write_text(f"{value}\n")
    return root
