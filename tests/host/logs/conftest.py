"""Each test may set up the log; afterwards it is as before."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from ccproxy_lib.host import logs


@pytest.fixture(autouse=True)
def keep_logger() -> Iterator[None]:
    logger = logging.getLogger(logs.ROOT)
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.level, logger.propagate = before
