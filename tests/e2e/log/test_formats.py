"""The format of the log."""

from __future__ import annotations

import json
import subprocess

import logfmtkv
import pytest

from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP


@pytest.mark.parametrize("line_format", ["json", "logfmt", "text"])
def test_the_format_is_as_asked_for(start_daemon, line_format):
    daemon = start_daemon("-log-format", line_format)
    assert daemon.stop() == 0
    for line in daemon.log.splitlines():
        if line_format == "json":
            assert {"time", "level", "msg"} <= set(json.loads(line))
        elif line_format == "logfmt":
            assert {"time", "level", "msg"} <= set(logfmtkv.parse(line, strict=True))
        else:
            assert line[2] == line[5] == ":"
            assert "\x1b" not in line


def test_an_unknown_format_is_refused():
    result = subprocess.run(
        [*PROGRAM, "-log-format", "xml"],
        cwd=TOP,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    said = "cc-proxy: unknown log format 'xml': use text, logfmt or json\n"
    assert (result.returncode, result.stderr) == (2, said)
