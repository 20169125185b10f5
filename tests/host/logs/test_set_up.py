"""Where the log goes."""

from __future__ import annotations

import gc
import logging
import os
from pathlib import Path

from ccproxy_lib.host import logs
from tests.host.logs.logged import log, logged


def test_what_waits_is_told_of() -> None:
    logged(lambda: None)
    assert logs.writer() is None
    with open(os.devnull, "w") as stream:
        logs.set_up(logging.INFO, stream)
        assert logs.writer() is not None


def test_another_set_up_closes_what_was_there() -> None:
    gc.collect()  # or what other tests have left may be closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    reader, writer = os.pipe()
    with open(writer, "w") as pipe:
        logs.set_up(logging.INFO, pipe)
    logged(lambda: None)
    with open(reader) as lines:
        assert lines.read() == ""
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_stream_that_is_closed_is_no_reason_to_stop(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as stream:
        logs.set_up(logging.INFO, stream, line_format="json")
        log.info("on")
    assert '"msg":"on"' in (tmp_path / "log").read_text()
    log.info("off")
