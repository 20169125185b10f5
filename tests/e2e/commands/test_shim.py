"""The command shim."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import termios

import pytest

from ccproxy_lib.front.shim import FORWARDED
from ccproxy_lib.wire import ctl
from tests.e2e.commands.shell import PROMPT, answer, interrupt_cat, shell
from tests.e2e.commands.tools import DATA, Tools, error, pipes
from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP, Refused, container, wait_until
from tests.e2e.relay import Relay
from tests.e2e.terminal import is_raw, on_terminal


def test_a_shim_stands_for_its_process(tools):
    with tools.started_shim("sh", "-c", "cat; echo err >&2; exit 7") as running:
        out, err = running.communicate(DATA, PATIENCE_S)
        assert (running.returncode, out, err) == (7, DATA, b"err\n")


@pytest.mark.heavy
def test_the_shim_of_a_process_that_does_not_start(tools):
    token = tools.token()
    with subprocess.Popen(tools.shim(token), cwd=TOP, **pipes()) as running:
        with pytest.raises(Refused, match="cannot run /no/such"):
            tools.runtime.hyper("newcontainer", container(token, "/no/such"), token)
        assert running.communicate(timeout=PATIENCE_S) == (b"", b"")
        assert running.returncode == 255


def test_all_signals_are_forwarded(daemon, registered, vm_id):
    """In the order in which they come, and each to the process, of whatever kind."""
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    tools = Tools(daemon.path, vm_id, runtime)
    with subprocess.Popen(tools.shim(token, "-d"), cwd=TOP, **pipes()) as running:
        runtime.hyper_command("newcontainer", container("c", "x"), token)
        start = vm.ack()
        runtime.answer()
        for number in sorted(FORWARDED - {signal.SIGWINCH, signal.SIGCHLD}):
            running.send_signal(number)
            kill = vm.ack()
            assert kill.code == ctl.Code.KILL_CONTAINER
            wanted = {"container": "c", "signal": number, "allProcesses": False}
            assert json.loads(kill.payload) == wanted
        stdio = json.loads(start.payload)["process"]["stdio"]
        vm.exit(stdio, 9)
        said = running.stderr.read().decode().splitlines()
        assert running.wait(PATIENCE_S) == 9
    assert said[0] == "cc-proxy: shim: connected"
    assert said[-1] == "cc-proxy: shim: exit status 9"
    assert not any(token in line for line in said)


def test_those_that_are_not_forwarded():
    missing = {number.name for number in signal.Signals if number < 31} - {
        signal.Signals(number).name for number in FORWARDED if number in set(signal.Signals)
    }
    kept = {"SIGKILL", "SIGSTOP", "SIGILL", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGPIPE"}
    assert missing - {"SIGSTKFLT"} == kept


def test_a_killed_shim_takes_its_process_along(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with subprocess.Popen(
        Tools(daemon.path, vm_id, runtime).shim(token), cwd=TOP, **pipes()
    ) as running:
        runtime.hyper_command("newcontainer", container("c", "x"), token)
        vm.ack()
        runtime.answer()
        running.kill()
        kill = vm.ack()
        assert json.loads(kill.payload)["signal"] == signal.SIGKILL
        # Nothing holds its streams open behind it.
        assert running.communicate(timeout=PATIENCE_S) == (b"", b"")


def test_a_shim_outlives_its_watcher(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    command = Tools(daemon.path, vm_id, runtime).shim(token)
    with subprocess.Popen(command, cwd=TOP, **pipes()) as running:
        runtime.hyper_command("newcontainer", container("c", "x"), token)
        start = json.loads(vm.ack().payload)["process"]
        runtime.answer()
        children = f"/proc/{running.pid}/task/{running.pid}/children"
        with open(children) as file:
            os.kill(int(file.read()), signal.SIGKILL)
        vm.exit(start["stdio"], 7)
        assert running.communicate(timeout=PATIENCE_S) == (b"", b"")
        assert running.returncode == 7


@pytest.mark.heavy
def test_a_wrong_token(tools):
    token = "A" * 43 + "="
    result = tools.run(*tools.shim(token)[len(PROGRAM) :])
    assert (result.returncode, result.stdout) == (1, b"")
    assert error(result) == "shim of the-container: unknown token: ***"


@pytest.mark.heavy
def test_a_shim_goes_on_when_nobody_reads_its_output(tools, tmp_path):
    script = f"echo one; read line; echo two; : > {tmp_path}/there; exit 4"
    with tools.started_shim("sh", "-c", script) as running:
        assert running.stdout.readline() == b"one\n"
        running.stdout.close()
        running.stdin.write(b"go on\n")
        running.stdin.close()
        assert running.wait(PATIENCE_S) == 4
    assert (tmp_path / "there").exists()


def test_a_shim_comes_back_and_nothing_is_lost(tools, tmp_path):
    relay = Relay(tmp_path, tools.path)
    script = (
        "seq 1 100000; cat;"
        f"until test -e {tmp_path}/away; do sleep 0.02; done; seq 100001 200000; exit 5"
    )
    whole = subprocess.run(["seq", "1", "200000"], capture_output=True, check=True).stdout
    half = subprocess.run(["seq", "1", "100000"], capture_output=True, check=True).stdout
    with tools.started_shim(
        "sh", "-c", script, path=relay.path, flags=("-d", "-r", "30")
    ) as running:
        assert running.stdout.read(len(half)) == half
        relay.cut()
        (tmp_path / "away").touch()
        running.stdin.write(b"back\n")
        running.stdin.close()
        relay.open()
        assert running.stdout.read() == b"back\n" + whole[len(half) :]
        assert running.wait(PATIENCE_S) == 5
    relay.cut()


@pytest.mark.heavy
def test_the_daemon_goes_and_does_not_come_back(own):
    with own.started_shim("sleep", "1000", flags=("-r", "0.05")) as running:
        own.daemon.process.kill()
        _, err = running.communicate(timeout=PATIENCE_S)
        assert running.returncode == 1
        (line,) = err.decode().splitlines()
        assert line.startswith("cc-proxy: shim of the-container: the ")
        assert f"; no way back within 0.05 s: cannot connect to the proxy at {own.path}" in line


@pytest.mark.heavy
def test_the_daemon_goes_and_another_one_comes(own, start_daemon):
    with own.started_shim("sleep", "1000", flags=("-r", "30")) as running:
        own.daemon.process.kill()
        own.daemon.process.wait()
        start_daemon()
        _, err = running.communicate(timeout=PATIENCE_S)
        assert running.returncode == 1
        (line,) = err.decode().splitlines()
        assert line.endswith("; the session is gone: unknown token: ***")


@pytest.mark.heavy
def test_a_signal_while_the_daemon_is_away_ends_the_shim(own):
    with own.started_shim("sleep", "1000", flags=("-d", "-r", "30")) as running:
        own.daemon.process.kill()
        while b"connecting again" not in running.stderr.readline():
            pass
        running.terminate()
        _, err = running.communicate(timeout=PATIENCE_S)
        assert running.returncode == 128 + signal.SIGTERM
        assert err.splitlines()[-1] == b"cc-proxy: shim: SIGTERM while the proxy was away"


@contextlib.contextmanager
def shim_on_terminal(tools, *flags: str, rows: int = 33, columns: int = 99):
    """A shell at its prompt, with a shim on a terminal."""
    token = tools.token()
    arguments = tools.shim(token, *flags)[len(PROGRAM) :]
    with on_terminal(*arguments, rows=rows, columns=columns) as terminal:
        envs = [{"env": "PS1", "value": PROMPT}]
        data = container(token, "sh", terminal=True, envs=envs)
        tools.runtime.hyper("newcontainer", data, token)
        terminal.expect_exact(PROMPT)
        yield terminal


@pytest.mark.heavy
def test_a_shim_on_a_terminal(tools):
    with shim_on_terminal(tools) as terminal:
        assert is_raw(terminal)
        wait_until(lambda: answer(terminal, "stty size") == "33 99\r\n", "it has the size")
        terminal.resize(45, 123)
        wait_until(lambda: answer(terminal, "stty size") == "45 123\r\n", "it has the new size")
        interrupt_cat(terminal)
        terminal.send("\x04")
        assert terminal.end()[0] == 128 + signal.SIGINT


@pytest.mark.heavy
@pytest.mark.parametrize("start", [shim_on_terminal, shell])
def test_stopping_and_going_on_leads_back_into_raw_mode(tools, start):
    with start(tools) as terminal:
        os.kill(terminal.process.pid, signal.SIGSTOP)
        terminal.wait_until_stopped()
        # What the user's shell does then.
        termios.tcsetattr(terminal.child_fd, termios.TCSANOW, terminal.modes_before)
        assert not is_raw(terminal)
        os.kill(terminal.process.pid, signal.SIGCONT)
        wait_until(lambda: is_raw(terminal), "the terminal is raw again")
        terminal.send("exit\r")
        assert terminal.end()[0] == 0


@pytest.mark.heavy
def test_a_shim_in_the_background_of_its_terminal(tools):
    """It catches the signals by which the kernel would stop it, and must not run in circles."""
    token = tools.token()
    command = shlex.join(tools.shim(token))
    with on_terminal(program=("sh", "-mc", f"{command} & read line; wait %1")) as terminal:
        data = container(token, "sh", "-c", "echo begin; cat; exit 6")
        tools.runtime.hyper("newcontainer", data, token)
        terminal.expect_exact("begin")
        terminal.send("typed\n")
        terminal.send("more\n")
        assert terminal.end()[0] == 6


@pytest.mark.heavy
def test_a_terminal_without_a_size_has_no_say(tools):
    with shim_on_terminal(tools, rows=0, columns=0) as terminal:
        assert answer(terminal, "stty size") == "0 0\r\n"
        terminal.resize(5, 40)
        wait_until(lambda: answer(terminal, "stty size") == "5 40\r\n", "it has the new size")
        terminal.send("exit\r")
        assert terminal.end()[0] == 0


@pytest.mark.heavy
@pytest.mark.parametrize("flags", [("-r", "0.05"), ("-d", "-r", "0.05")])
def test_the_daemon_is_killed_under_a_shim(own, flags):
    with shim_on_terminal(own, *flags) as terminal:
        assert is_raw(terminal)
        own.daemon.process.kill()
        status, shown = terminal.end()
    assert status == 1
    lines = shown.splitlines()
    assert lines[-1].startswith("cc-proxy: shim of the-container: the ")
    assert len(lines) == 1 or "-d" in flags


@pytest.mark.heavy
def test_a_shim_that_is_killed_leaves_the_terminal_usable(tools):
    with shim_on_terminal(tools) as terminal:
        assert is_raw(terminal)
        terminal.process.kill()
        wait_until(lambda: not is_raw(terminal), "the terminal is as before")
        status, _ = terminal.end()
    assert status == -signal.SIGKILL
