"""What the daemon logs, where to, and that nobody who reads it can stop it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import logfmtkv
import pytest

from ccproxy_lib.wire.frames import Command, Stream, Type
from tests.e2e.harness import PATIENCE_S, TOP, Client, Refused, exclusive, wait_until

JOURNALD = "/lib/systemd/systemd-journald"


@contextlib.contextmanager
def running(path: Path, *flags: str, **options):
    """Run a daemon with a stderr of the test's own, until it has been told to stop."""
    program = [sys.executable, "-m", "ccproxy_lib", "-socket-path", str(path), "-ksm", "initial"]
    process = subprocess.Popen(
        [*program, *flags], cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options
    )
    try:
        wait_until(lambda: answers(process, path), "the daemon answers")
        yield process
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def answers(process, path: Path) -> bool:
    assert process.poll() is None
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def ask(path: Path, command: int = Command.CONNECT_SHIM) -> None:
    """Be a client that is refused, and answered."""
    with Client(str(path)) as client, pytest.raises(Refused):
        client.call(command, {"token": "x"})


def send_entry(client: Client, **entry) -> None:
    client.send(Type.STREAM, Stream.LOG, json.dumps({"source": "shim"} | entry).encode())


# ---- formats


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
        [sys.executable, "-m", "ccproxy_lib", "-log-format", "xml"],
        cwd=TOP,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    said = "cc-proxy: unknown log format 'xml': use text, logfmt or json\n"
    assert (result.returncode, result.stderr) == (2, said)


# ---- readers of stderr


def test_a_reader_that_does_not_read_stops_nobody(tmp_path):
    path = tmp_path / "sock"
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as lines:
        with running(path, "-log", "debug", "-log-format", "json", stderr=writer) as daemon:
            os.close(writer)
            with Client(str(path)) as client:
                for number in range(600):  # some 8 KiB each; the pipe takes 64, the daemon 1024
                    send_entry(client, level="info", msg=f"{number} {'x' * 8000}")
                with pytest.raises(Refused):
                    client.call(Command.CONNECT_SHIM, {"token": "x"})
            ask(path)  # and so are others
            assert daemon.poll() is None
            got = b""
            while b"too slow" not in got:
                got += lines.read(1 << 16)
            ask(path)
            while got.count(b"client gone") < 2:
                got += lines.read(1 << 16)
        got += lines.read(1 << 20)
    said = [json.loads(line) for line in got.splitlines()]
    entries = [each["msg"].split()[0] for each in said if "source" in each]
    assert entries == [str(number) for number in range(len(entries))]
    assert 100 < len(entries) < 600
    (notice,) = (each for each in said if "too slow" in each["msg"])
    assert notice["level"] == "warning"
    assert notice["count"] >= 600 - len(entries)
    assert said[-1]["msg"] == "stopped"


def test_a_reader_that_is_gone_stops_nobody(tmp_path):
    path = tmp_path / "sock"
    with running(path, "-log", "debug", stderr=subprocess.PIPE) as daemon:
        daemon.stderr.close()
        for _ in range(3):
            ask(path)


# ---- the journal


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
    if os.path.lexists("/run/systemd/journal/socket"):
        pytest.skip("this machine has a journald")
    stream, env = led_to_journal
    with running(tmp_path / "sock", "-log", "info", stderr=stream, env=env):
        pass
    *_, last = (tmp_path / "stderr").read_text().splitlines()
    assert last == "<6>level=info msg=stopped"
