"""The daemon and the journal."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import PATIENCE_S, Client, Refused, exclusive, wait_until
from tests.e2e.log.entries import send_entry
from tests.e2e.log.own_stderr import running

JOURNALD = "/lib/systemd/systemd-journald"


@pytest.fixture
def journal():
    """A journald of the test's own, at the place where systemd's would be; returns how to ask it.

    The place is the machine's, so only one test at a time has it.
    """
    if not os.access(JOURNALD, os.X_OK) or not shutil.which("journalctl"):
        pytest.skip("systemd-journald is not installed")
    if os.geteuid() != 0:
        pytest.skip("only root can run a journald")
    if not Path("/etc/machine-id").exists():
        pytest.skip("this machine has no machine-id, which journald needs")
    place = Path("/run/systemd/journal")
    name = f"ccproxy-test-{os.getpid()}"
    own = place.with_name(f"journal.{name}")
    with exclusive(Path("/run")), contextlib.ExitStack() as stack:
        if os.path.lexists(place):
            pytest.skip("this machine has a journald")
        place.parent.mkdir(exist_ok=True)
        journald = subprocess.Popen([JOURNALD, name], stderr=subprocess.PIPE)
        stack.callback(journald.stderr.close)
        stack.callback(forget_journal, name)
        stack.callback(journald.wait)
        stack.callback(journald.terminate)
        wait_until((own / "socket").exists, "journald listens")
        place.symlink_to(own)
        stack.callback(place.unlink)

        def entries(*matches: str) -> list[dict]:
            ask = ["journalctl", f"--namespace={name}", "-q"]
            subprocess.run([*ask, "--sync"], check=True, timeout=PATIENCE_S)
            found = subprocess.run(
                [*ask, "--output=json", *matches],
                check=False,  # it fails when nothing matches
                capture_output=True,
                timeout=PATIENCE_S,
            )
            return [json.loads(line) for line in found.stdout.splitlines()]

        yield entries


def forget_journal(name: str) -> None:
    shutil.rmtree(f"/run/systemd/journal.{name}")
    for place in ("/run/log/journal", "/var/log/journal"):
        for files in Path(place).glob(f"*.{name}"):
            shutil.rmtree(files)


@pytest.fixture
def led_to_journal(tmp_path):
    """A stderr that the environment says leads to the journal, as systemd does it."""
    with open(tmp_path / "stderr", "wb") as stream:
        status = os.fstat(stream.fileno())
        yield stream, os.environ | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


@pytest.mark.lasting
def test_the_real_journal_has_every_field(journal, led_to_journal, tmp_path):
    stream, env = led_to_journal
    path = tmp_path / "sock"
    with running(path, "-log", "info", stderr=stream, env=env) as daemon:
        with Client(str(path)) as client:
            send_entry(client, level="error", containerId="box", msg="one\ntwo \x1b[2J")
            send_entry(client, level="info", msg="x" * 500_000)
            with pytest.raises(Refused):
                client.call(Command.CONNECT_SHIM, {"token": "x"})
    (entry,) = journal("CC_CONTAINER=box")
    assert entry["MESSAGE"].startswith(r"one\u000atwo \u001b[2J client=")
    assert entry["CC_MESSAGE"] in ("one\ntwo \x1b[2J", list(b"one\ntwo \x1b[2J"))
    wanted = {
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "cc-proxy",
        "CC_SOURCE": "shim",
        "_PID": str(daemon.pid),
        "_TRANSPORT": "journal",
    }
    assert {name: entry[name] for name in wanted} == wanted
    assert journal(f"CC_CLIENT={entry['CC_CLIENT']}", "PRIORITY=6")
    assert journal("SYSLOG_IDENTIFIER=cc-proxy", "CC_MESSAGE=stopped")
    assert (tmp_path / "stderr").read_bytes() == b""


def test_without_a_journal_the_lines_go_to_stderr(led_to_journal, tmp_path):
    stream, env = led_to_journal
    with exclusive(Path("/run")):  # keeps off journald, in another run of these tests
        if os.path.lexists("/run/systemd/journal/socket"):
            pytest.skip("this machine has a journald")
        with running(tmp_path / "sock", "-log", "info", stderr=stream, env=env):
            pass
    *_, last = (tmp_path / "stderr").read_text().splitlines()
    assert last == "<6>level=info msg=stopped"
