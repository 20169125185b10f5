"""Commands that look into a running daemon: status, top, events, log-level."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from ccproxy_lib.errors import ProxyError, UsageError
from ccproxy_lib.front import entry
from ccproxy_lib.front.views import events, log_level, status
from ccproxy_lib.wire import frames
from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command, FrameParser, Type
from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP, container, wait_until
from tests.e2e.terminal import Terminal, shown

pytestmark = pytest.mark.heavy

SCREEN, NO_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
CURSOR = "\x1b[?25h"
# What might make up for what a command does not do by itself, and the opposite.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
ENVIRONMENT |= {"FORCE_COLOR": "1"}


@pytest.fixture
def ask(daemon):
    """Run a command to its end, its output into a pipe; it must not leave a traceback."""

    def run(command: str, *arguments: str, path: str = daemon.path):
        result = subprocess.run(
            [*PROGRAM, command, "--socket-path", path, *arguments],
            cwd=TOP,
            env=ENVIRONMENT,
            capture_output=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE_S,
            check=False,
        )
        assert "Traceback" not in result.stderr, result.stderr
        return result

    return run


@contextlib.contextmanager
def following(path: str, *arguments: str, **environment: str):
    """The command events, once it has subscribed, its output in a pipe."""
    with subprocess.Popen(
        [*PROGRAM, "events", "--socket-path", path, *arguments],
        cwd=TOP,
        env=ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_subscriber(client) -> None:
    wait_until(
        lambda: json.loads(client.call(Command.STATUS))["subscribers"] == 1, "somebody subscribes"
    )


# ---- status


def test_status_into_a_pipe_is_plain_and_whole(daemon, registered, vm_id, ask):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token):
        result = ask("status")
    assert (result.returncode, result.stderr) == (0, "")
    assert "cc-proxy 0.1.0-" in result.stdout
    assert f"pid {daemon.pid} " in result.stdout
    assert "\x1b" not in result.stdout
    assert token not in result.stdout
    of_vm = [line.split() for line in result.stdout.splitlines() if line.startswith(vm_id)]
    assert [line[1] for line in of_vm] == ["ok", "-"]
    assert of_vm[1][2] == "claimed"


def test_status_as_json_is_the_daemons_answer(daemon, registered, vm_id, ask):
    result = ask("status", "--json", vm_id)
    assert (result.returncode, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert [each["id"] for each in answer["vms"]] == [vm_id]
    with daemon.client() as client:
        theirs = json.loads(client.call(Command.STATUS, {"containerId": vm_id}))
    assert list(answer) == list(theirs)
    assert list(answer["vms"][0]) == list(theirs["vms"][0])


@pytest.mark.parametrize("columns", [80, 200])
def test_status_fits_its_terminal(daemon, scripted, columns):
    ids = [f"{name}\x1b[2J[red]{'0' * 64}" for name in ("a", "b")]
    vms = [scripted() for _ in range(len(ids))]
    with contextlib.ExitStack() as stack:
        for vm, vm_id in zip(vms, ids, strict=True):
            accepting = threading.Thread(target=vm.accept)
            accepting.start()
            runtime = stack.enter_context(daemon.client())
            runtime.register(vm, vm_id, 30)
            accepting.join()
        terminal = Terminal("status", "--socket-path", daemon.path, columns=columns)
        stack.callback(terminal.close)
        code, text = terminal.end()
        for vm in vms:
            vm.hang_up()
    assert code == 0
    assert "\x1b[2J" not in text
    lines = shown(text).splitlines()
    assert len(lines) == 24 - 1
    assert max(map(len, lines)) <= columns
    assert re.fullmatch(r"\.\.\. and \d+ more sessions; use --all or a pipe", lines[-1])
    if columns == 200:
        assert r"a\x1b[2J[red]0000" in shown(text)


# ---- top


@pytest.fixture
def top(daemon):
    """Start top on a terminal; with the daemon of the test's own where it says so."""
    with contextlib.ExitStack() as stack:

        def start(path: str = daemon.path, interval: str = "0.1") -> Terminal:
            terminal = Terminal("top", "--interval", interval, "--socket-path", path)
            stack.callback(terminal.close)
            terminal.expect_exact(SCREEN)
            return terminal

        yield start


def ended(terminal: Terminal) -> tuple[int, str]:
    """The exit status and what is shown when the screen is given back."""
    status, text = terminal.end()
    screen, last = text.rsplit(NO_SCREEN, 1)
    assert CURSOR in last
    assert SCREEN not in last
    return status, shown(last)


@contextlib.contextmanager
def flowing(vm, shim):
    """Have a process put out more and more, as a rate shows for the time between two looks."""
    over = threading.Event()

    def flow() -> None:
        while not over.wait(0.01):
            vm.output(1, bytes(50_000))
            shim.read_stdout_bytes(50_000)

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_top_shows_what_moves_and_ends_with_q(daemon, registered, vm_id, top):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    terminal = top()
    terminal.expect(rf"{vm_id} +ok +\S+ +1 +0 +0 +0 +0 ")
    with daemon.shim(token) as shim:
        runtime.hyper_command("newcontainer", container("c1", "sh"), token)
        vm.ack()
        runtime.answer()
        with flowing(vm, shim):
            terminal.expect(rf"{vm_id} +ok +\S+ +1 +0 +[\d.]+[KM] +0 ")
            terminal.expect(r"c1 +running +[^\n]*? [\d.]+[KM] ")
        vm.exit(1, 0)
        shim.collect()
    terminal.send("x")
    terminal.send("q")
    assert ended(terminal) == (0, "")


def test_top_follows_the_terminals_size_and_ends_with_ctrl_c(registered, top):
    terminal = top(interval="3600")
    terminal.expect_exact("OUTMSG/s")
    assert "OUTMSGS" not in terminal.before
    terminal.resize(30, 200)
    terminal.expect_exact("OUTMSGS")
    terminal.resize(3, 10)
    terminal.expect_exact("cc-proxy…")
    terminal.resize(24, 80)
    terminal.expect_exact("OUTMSG/s")
    terminal.send("\x03")
    assert ended(terminal) == (0, "")


def test_top_gives_the_terminal_back_when_the_daemon_dies(start_daemon, top):
    daemon = start_daemon()
    terminal = top(daemon.path)
    daemon.process.kill()
    daemon.process.wait()
    status, text = ended(terminal)
    assert status == 1
    assert re.fullmatch(r"cc-proxy: .*(lost|closed).*\r\n", text)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_top_gives_the_terminal_back_when_it_is_told_to_end(top, number):
    terminal = top()
    terminal.process.send_signal(number)
    assert ended(terminal) == (128 + number, "")


def test_top_gives_the_terminal_back_while_it_is_stopped(top):
    terminal = top()
    terminal.expect_exact("q quits")
    terminal.send("\x1a")
    terminal.wait_until_stopped()
    assert terminal.modes() == terminal.modes_before
    terminal.process.send_signal(signal.SIGCONT)
    terminal.expect_exact(SCREEN)
    terminal.expect_exact("q quits")
    terminal.send("q")
    assert ended(terminal) == (0, "")


def test_top_tells_when_the_daemon_hangs_and_ends_all_the_same(start_daemon, top):
    daemon = start_daemon()
    terminal = top(daemon.path)
    try:
        daemon.process.send_signal(signal.SIGSTOP)
        terminal.expect_exact("no answer for ")
        daemon.process.send_signal(signal.SIGCONT)
        terminal.expect_exact("every 0.1 s")
        daemon.process.send_signal(signal.SIGSTOP)
        terminal.send("q")
        assert ended(terminal) == (0, "")
    finally:
        daemon.process.send_signal(signal.SIGCONT)


def test_top_can_look_once_without_a_terminal(daemon, registered, vm_id, ask):
    result = ask("top", "--once", "--interval", "0.1")
    assert (result.returncode, result.stderr) == (0, "")
    assert "0/s, 0 msg/s" in result.stdout
    assert f"\n{vm_id} " in result.stdout
    assert "\x1b" not in result.stdout


def test_top_needs_a_terminal(ask):
    result = ask("top")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "cc-proxy: top needs a terminal to draw on: use top --once, or status\n"
    )


# ---- events


def test_events_as_json_until_ctrl_c(daemon, scripted, vm_id):
    vm = scripted()
    with daemon.client() as client, following(daemon.path, "--json", vm_id) as process:
        wait_for_subscriber(client)
        accepting = threading.Thread(target=vm.accept)
        accepting.start()
        client.register(vm, vm_id)
        accepting.join()
        event = json.loads(process.stdout.readline())
        vm.hang_up()
        lost = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE_S) == ("", "")
        assert process.returncode == 0
    assert (event["event"], event["vm"]) == ("vm-registered", vm_id)
    assert (lost["event"], lost["vm"]) == ("vm-lost", vm_id)
    assert lost["reason"]


def test_events_on_a_terminal_until_ctrl_c(daemon, scripted):
    vm, vm_id = scripted(), "a\x1b[2J"
    terminal = Terminal("events", "--socket-path", daemon.path)
    with contextlib.closing(terminal), daemon.client() as client:
        wait_for_subscriber(client)
        accepting = threading.Thread(target=vm.accept)
        accepting.start()
        client.register(vm, vm_id)
        accepting.join()
        terminal.expect(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  vm-registered +a\\x1b\[2J\r\n")
        terminal.send("\x03")
        assert terminal.end() == (0, "^C")
        vm.hang_up()


def test_events_that_the_outputs_encoding_lacks(registered, daemon):
    vm, runtime = registered
    with following(daemon.path, PYTHONIOENCODING="ascii") as process:
        wait_for_subscriber(runtime)
        vm.send(Code.PROCESS_ASYNC_EVENT, "é".encode())
        assert process.stdout.readline().endswith("  data=\\xe9\n")


def test_events_end_with_the_daemon(start_daemon):
    daemon = start_daemon()
    with following(daemon.path) as process:
        with daemon.client() as client:
            wait_for_subscriber(client)
        assert daemon.stop() == 0
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (1, "")
    assert err == "cc-proxy: the proxy has closed the connection\n"


# ---- log-level


def test_log_level_of_the_daemon_and_of_one_container(daemon, ask):
    with daemon.client() as client:
        for level in ("warn", "debug"):
            result = ask("log-level", level)
            assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
            assert json.loads(client.call(Command.STATUS))["logLevel"] == level
    for level in ("debug", "default"):
        assert log_level.main(arguments(daemon.path, level, "--container", "c1")) == 0
    daemon.wait_for_log("target=c1", times=2)


def arguments(path: str, *more: str, command: str = "log-level") -> list[str]:
    return [command, "--socket-path", path, *more]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("nope",), "unknown log level 'nope': use debug, info, warn, error, fatal or panic"),
        (("default",), "the level 'default' is for --container ID only: name a level"),
        ((), "wrong arguments for log-level: see 'cc-proxy log-level --help'"),
    ],
)
def test_wrong_levels(more, text):
    with pytest.raises(UsageError) as caught:
        log_level.main(arguments("/nowhere", *more))
    assert str(caught.value) == text


# ---- when there is no answer


def test_exit_status_of_wrong_arguments(ask):
    result = ask("log-level", "nope")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("cc-proxy: unknown log level 'nope'")


def test_no_daemon(ask, tmp_path):
    path = str(tmp_path / "absent")
    result = ask("status", path=path)
    assert (result.returncode, result.stdout) == (1, "")
    text = f"cannot connect to the proxy at {path}: No such file or directory"
    assert result.stderr == f"cc-proxy: {text}\n"
    for main, more in ((log_level.main, ("debug",)), (events.main, ())):
        with pytest.raises(ProxyError, match=re.escape(text)):
            main(arguments(path, *more, command="log-level" if more else "events"))


def test_a_vm_that_the_daemon_does_not_know(daemon, capsys):
    assert entry.main(arguments(daemon.path, "no\x1b\n", command="status")) == 1
    assert capsys.readouterr() == ("", "cc-proxy: unknown containerID: no\\x1b\\n\n")


@pytest.fixture
def older_daemon(tmp_path):
    """Answers one command as daemons do that do not know it; its value is the path."""
    path = str(tmp_path / "older")

    def serve() -> None:
        with listener.accept()[0] as client:
            (frame,) = FrameParser().feed(client.recv(1 << 16))
            answer = json.dumps({"msg": f"unknown command opcode {frame.opcode}"}).encode()
            client.sendall(frames.encode(Type.RESPONSE, frame.opcode, answer, error=True))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        thread.join()


@pytest.mark.parametrize(
    ("main", "more"),
    [(status.main, ["status"]), (events.main, ["events"]), (log_level.main, ["log-level", "info"])],
)
def test_an_older_daemon(older_daemon, main, more):
    with pytest.raises(ProxyError) as caught:
        main([*more, "--socket-path", older_daemon])
    assert str(caught.value) == (
        "the daemon that runs is older than this program and does not know this command"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, as only root can")
def test_a_user_who_may_not(start_daemon):
    script = (
        "import os, sys\n"
        "from ccproxy_lib.front import arguments, entry\n"
        "from ccproxy_lib.front.views import safe, status\n"
        "os.setgroups([]); os.setgid(12345); os.setuid(12345)\n"
        "sys.exit(entry.main(sys.argv[1:]))\n"
    )
    daemon = start_daemon()
    command = [sys.executable, "-c", script, *arguments(daemon.path, command="status")]
    result = subprocess.run(
        command, cwd=TOP, capture_output=True, encoding="utf-8", timeout=PATIENCE_S, check=False
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"cc-proxy: cannot connect to the proxy at {daemon.path}: Permission denied\n"
    )
