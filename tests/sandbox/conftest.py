"""Most tests leave the agent as it was and share one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.agent import Sandbox, Start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Sandbox] = []

    def start_sandbox(*options: str, **how: Any) -> Sandbox:
        started.append(Sandbox(tmp_path, *options, **how))
        return started[-1]

    yield start_sandbox
    for sandbox in started:
        sandbox.close()


@pytest.fixture
def sandbox(start: Start) -> Sandbox:
    return start()


@pytest.fixture(scope="session")
def shared_by_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("shared"))
    yield sandbox
    sandbox.close()


@pytest.fixture
def shared(shared_by_all: Sandbox) -> Sandbox:
    """For tests that leave the agent and the connections as they are."""
    shared_by_all.io.messages.clear()
    return shared_by_all
