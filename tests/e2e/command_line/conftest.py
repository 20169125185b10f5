"""Daemons that a test starts by its own command line."""

from __future__ import annotations

import pytest

from tests.e2e.command_line.program import Running


@pytest.fixture
def path(tmp_path):
    return tmp_path / "proxy.sock"


@pytest.fixture
def start(tmp_path, path):
    """Start a daemon that listens at ``path``, unless the test says where."""
    started = []

    def start(*flags, at=None, **options):
        where = () if at else ("-socket-path", str(path))
        started.append(Running(tmp_path, at or path, *where, *flags, **options))
        return started[-1]

    yield start
    for running in started:
        if running.running:
            running.stop()
