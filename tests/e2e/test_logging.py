"""What the daemon logs, where to, and that nobody who reads it can stop it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import termios
import threading
from pathlib import Path

import logfmtkv
import pytest

from ccproxy_lib.wire import tty
from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command, Stream, Type
from tests.e2e.harness import PATIENCE_S, TOP, Client, Refused, container, exclusive, wait_until

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


def accept_soon(vm) -> None:
    threading.Thread(target=vm.accept).start()


def start(vm, runtime, container_id: str, token: str) -> int:
    """Start a container with a terminal; returns its stream's number."""
    data = container(container_id, "x", terminal=True)
    runtime.hyper_command("newcontainer", data, token)
    started = json.loads(vm.ack().payload)
    runtime.answer()
    return started["process"]["stdio"]


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
            with Client(str(path)) as client:
                status = json.loads(client.call(Command.STATUS, {"sessions": False}))
        got += lines.read(1 << 20)
    said = [json.loads(line) for line in got.splitlines()]
    entries = [each["msg"].split()[0] for each in said if "source" in each]
    assert entries == [str(number) for number in range(len(entries))]
    assert 100 < len(entries) < 600
    (notice,) = (each for each in said if "too slow" in each["msg"])
    assert notice["level"] == "warning"
    assert notice["count"] >= 600 - len(entries)
    assert status["drops"]["log-lines"] == notice["count"]
    assert said[-1]["msg"] == "stopped"


def test_a_reader_that_is_gone_stops_nobody(tmp_path):
    path = tmp_path / "sock"
    with running(path, "-log", "debug", stderr=subprocess.PIPE) as daemon:
        daemon.stderr.close()
        for _ in range(3):
            ask(path)


def test_a_terminal_that_is_stopped_stops_nobody(tmp_path):
    path = tmp_path / "sock"
    master, slave = os.openpty()
    with open(master, "rb", buffering=0) as screen, open(slave, "wb") as terminal:
        with running(path, "-log", "debug", stderr=terminal):
            termios.tcflow(slave, termios.TCOOFF)  # as Ctrl-S does
            with Client(str(path)) as client:
                for number in range(200):
                    send_entry(client, level="info", msg=f"entry {number}.")
                with pytest.raises(Refused):
                    client.call(Command.CONNECT_SHIM, {"token": "x"})
            ask(path)
            termios.tcflow(slave, termios.TCOON)
            got = b""
            while b"entry 199." not in got:
                got += screen.read(1 << 16)
    assert re.findall(rb"entry (\d+)\.", got) == [b"%d" % number for number in range(200)]


def test_a_reader_that_is_stuck_does_not_keep_the_daemon_from_ending(tmp_path):
    path = tmp_path / "sock"
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0), open(writer, "wb", buffering=0) as stderr:
        with running(path, "-log", "debug", stderr=stderr), Client(str(path)) as client:
            for _ in range(50):
                send_entry(client, level="info", msg="x" * 8000)
            with pytest.raises(Refused):
                client.call(Command.CONNECT_SHIM, {"token": "x"})


# ---- entries of clients


def records(daemon) -> list[dict[str, str]]:
    """What a daemon has logged, as the fields of each line.

    The shared daemon's log may begin in the middle of one, and end so.
    """
    lines = daemon.log.split("\n")[:-1]
    return [logfmtkv.parse(line, strict=True) for line in lines if line.startswith("time=")]


def test_a_flood_of_entries_is_cut_and_counted(start_daemon):
    daemon = start_daemon("-log-burst", "20", "-log-rate", "1")
    with daemon.client() as client, daemon.client() as other:
        for number in range(500):
            send_entry(client, level="error", msg=f"entry {number}")
        send_entry(other, level="error", msg="from another")

        def told() -> int:
            said = records(daemon)
            counts = [int(each["count"]) for each in said if each["msg"] == "log entries dropped"]
            return sum(counts) + sum(each["msg"].startswith("entry ") for each in said)

        wait_until(lambda: told() == 500, "all are logged or counted")
        status = json.loads(client.call(Command.STATUS, {"sessions": False}))
    said = records(daemon)
    entries = [each["msg"] for each in said if each["msg"].startswith("entry ")]
    assert entries[:20] == [f"entry {number}" for number in range(20)]
    assert status["drops"]["log-entries"] == 500 - len(entries)
    assert "from another" in [each["msg"] for each in said]
    (client_id,) = {each["client"] for each in said if each["msg"].startswith("entry ")}
    (dropper,) = {each["client"] for each in said if each["msg"] == "log entries dropped"}
    assert dropper == client_id


def test_entries_that_nobody_wants_count_for_nothing(start_daemon):
    daemon = start_daemon("-log-burst", "1", "-log-rate", "1", "-log", "info")
    with daemon.client() as client:
        for _ in range(100):
            send_entry(client, level="debug", msg="unwanted")
        send_entry(client, level="info", msg="wanted")
        daemon.wait_for_log("msg=wanted")
    assert "unwanted" not in daemon.log


def test_a_flood_of_refused_commands_is_cut_and_counted(daemon):
    with daemon.client() as client:
        for _ in range(300):
            with pytest.raises(Refused):
                client.call(Command.UNREGISTER_VM, {"containerId": "nobody"})
    said = lines_about(daemon, "command refused")
    assert 100 <= len(said) < 300
    assert all(each["reason"] == "unknown containerID: nobody" for each in said)


def test_a_flood_of_events_of_an_agent_is_cut_and_counted(daemon, registered):
    vm, runtime = registered
    for number in range(300):
        vm.send(Code.PROCESS_ASYNC_EVENT, b"event %d" % number)
    runtime.hyper_command("ping")
    vm.ack()
    runtime.answer()
    said = [each["event"] for each in lines_about(daemon, "agent event")]
    assert said[:100] == [f"event {number}" for number in range(100)]
    assert len(said) < 300


@pytest.mark.parametrize(
    "text",
    [
        "two\ntime=2020-01-01T00:00:00Z level=error msg=forged vm=c9",
        '" level=error msg="forged',
        "\r\x1b]0;mine\x07\x1b[2J\x9b31m\u2028",
        "\\",
    ],
)
def test_an_entry_cannot_forge_another(daemon, text, vm_id):
    with daemon.client() as client:
        send_entry(client, level="info", msg=text, containerId=vm_id + text)
        daemon.wait_for_log(f"container={json.dumps(vm_id)[:-1]}")
    (said,) = (each for each in records(daemon) if each.get("source") == "shim")
    assert (said["level"], said["msg"], said["container"]) == ("info", text, vm_id + text)
    assert "\x1b" not in daemon.log


def test_an_entry_has_the_vm_of_its_client(daemon, registered, vm_id):
    _, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        send_entry(shim, level="warn", msg="of the shim", containerId="box")
        send_entry(runtime, level="warn", msg="of the runtime", source="runtime")
        daemon.wait_for_log("of the shim")
        daemon.wait_for_log("of the runtime")
    said = {each["msg"]: each for each in records(daemon)}
    names = ("level", "vm", "source", "container")
    assert [said["of the shim"][name] for name in names] == ["warning", vm_id, "shim", "box"]
    assert [said["of the runtime"][name] for name in names] == ["warning", vm_id, "runtime", ""]


# ---- debug


def lines_about(daemon, message: str) -> list[dict[str, str]]:
    return [each for each in records(daemon) if each["msg"] == message]


def test_debug_shows_messages_of_the_io_channel(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio = start(vm, runtime, "box", token)
        vm.output(stdio, b"hello \x00\xff")
        vm.output(stdio, b"x" * 5000)
        assert len(shim.read_stdout_bytes(5008)) == 5008
        shim.stdin(b"to the process")
        assert vm.input() == (stdio, b"to the process")
        vm.exit(stdio, 3)
        assert shim.collect()[2] == 3
    where = {"vm": vm_id, "container": "box", "seq": str(stdio)}
    out = [each for each in lines_about(daemon, "from the VM") if each.items() >= where.items()]
    assert out[0]["bytes"] == "8"
    assert out[0]["hex"] == b"hello \x00\xff".hex()
    assert {each["hex"] for each in out if each["bytes"] == "5000"} == {(b"x" * 64).hex()}
    assert [each["hex"] for each in out[-2:]] == ["", "03"]
    (sent,) = (each for each in lines_about(daemon, "to the VM") if each.items() >= where.items())
    assert (sent["bytes"], sent["hex"]) == ("14", b"to the process".hex())


def test_many_messages_are_shown_within_bounds(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio = start(vm, runtime, "box", token)
        for _ in range(30):
            vm.io.sendall(tty.encode(stdio, b"y") * 100)
        vm.output(stdio, b"end")
        shim.read_stdout(b"end")
        vm.exit(stdio, 0)
        shim.collect()
    shown = len(lines_about(daemon, "from the VM"))
    assert 500 <= shown < 3000


def test_one_vm_can_be_debugged_alone_and_its_console_too(start_daemon, scripted, tmp_path):
    daemon = start_daemon()
    consoles, vms = {}, {}
    with daemon.client() as runtime, contextlib.ExitStack() as stack:
        runtime.call(Command.LOG_CONTROL, {"level": "warn"})
        for vm_id in ("quiet", "loud"):
            vm = vms[vm_id] = scripted()
            consoles[vm_id] = stack.enter_context(socket.socket(socket.AF_UNIX))
            consoles[vm_id].bind(str(tmp_path / vm_id))
            consoles[vm_id].listen()
            consoles[vm_id].settimeout(PATIENCE_S)
            accept_soon(vm)
            runtime.register(vm, vm_id, console=str(tmp_path / vm_id))
        with daemon.client() as operator:
            for _ in range(2):  # the second time it is followed already
                members = {"level": "debug", "containerId": "loud"}
                operator.call(Command.LOG_CONTROL, members)
            console = stack.enter_context(consoles["loud"].accept()[0])
            console.sendall(b"the kernel says\n")
            daemon.wait_for_log("the kernel says")
            for vm in vms.values():
                vm.output(7, b"x")
            daemon.wait_for_log("from the VM")
            members = {"level": "default", "containerId": "loud"}
            operator.call(Command.LOG_CONTROL, members)
            console.sendall(b"unheard\n")
        consoles["quiet"].setblocking(False)
        with pytest.raises(BlockingIOError):
            consoles["quiet"].accept()
    assert daemon.stop() == 0
    assert "unheard" not in daemon.log
    assert {each["vm"] for each in lines_about(daemon, "from the VM")} == {"loud"}


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
