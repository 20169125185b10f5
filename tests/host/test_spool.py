"""Where a spool's file is."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ccproxy_lib.host.spool import Spool

# Tells its starter that it serves, and then a pipe where it keeps things.
IN_THE_BACKGROUND = """
import os, sys
from ccproxy_lib.host.daemonize import detach
from ccproxy_lib.host.spool import Spool

starter = detach()
if isinstance(starter, int):
    sys.exit(starter)
starter.serving(str)
with open(sys.argv[1], "w") as pipe:
    spool = Spool(10)
    pipe.write(os.readlink(f"/proc/self/fd/{spool._file.fileno()}"))
"""


def directory_of(spool: Spool) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{spool._file.fileno()}")).parent


@pytest.mark.parametrize("variable", [None, ""])
def test_it_is_in_the_default_place(monkeypatch: pytest.MonkeyPatch, variable: str | None) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    if variable is not None:
        monkeypatch.setenv("TMPDIR", variable)
    with closing(Spool(10)) as spool:
        assert directory_of(spool) == Path("/var/tmp")


def test_a_relative_place_is_that_of_the_starter(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "here").mkdir()
    subprocess.run(
        [sys.executable, "-c", IN_THE_BACKGROUND, str(pipe)],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": "here", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    assert Path(pipe.read_text()).parent == tmp_path / "here"
