"""The command exec."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from ccproxy_lib.client import Client
from tests.e2e.commands.shell import answer, interrupt_cat, shell
from tests.e2e.commands.tools import DATA, error, pipes
from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP, wait_until
from tests.e2e.terminal import is_raw


def test_exec_carries_streams_and_status(tools):
    script = 'cat; echo "$A $B" >&2; pwd >&2; exit 3'
    result = tools.exec(
        *("tools", "--env", "A=1", "-e", "B=two  words=", "--cwd", "/usr", "--"),
        *("sh", "-c", script),
        input=DATA,
    )
    assert result.returncode == 3
    assert result.stdout == DATA
    assert result.stderr == b"1 two  words=\n/usr\n"


@pytest.mark.heavy
def test_options_behind_the_command_are_its_own(tools):
    result = tools.exec("--container", "first", "tools", "echo", "-t", "--help", "--", "--env")
    assert (result.returncode, result.stdout) == (0, b"-t --help -- --env\n")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("nope", "ls"), "exec: unknown containerID: nope"),
        (("tools", "--container", "nope", "ls"), "unknown container: nope"),
        (("tools", "/no/such/program"), "cannot run /no/such/program"),
    ],
)
def test_exec_that_cannot_run(tools, arguments, text):
    result = tools.exec(*arguments)
    assert (result.returncode, result.stdout) == (125, b"")
    assert text in error(result)
    with Client(tools.path) as client:  # and nothing is left of it
        wait_until(lambda: not execs(client), "its session is gone")
        assert client.status(sessions=False)["tokens"] == 0


@pytest.mark.heavy
def test_a_signal_while_exec_waits_for_the_agent(daemon, registered, vm_id):
    vm, _ = registered
    command = [*PROGRAM, "exec", "--socket-path", daemon.path, vm_id, "--container", "c", "ls"]
    with subprocess.Popen(command, cwd=TOP, **pipes()) as process:
        vm.command()  # which stays unanswered
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + signal.SIGINT
    assert err == b"cc-proxy: exec: interrupted; the command may go on\n"


@pytest.mark.heavy
def test_exec_without_a_container(own, sandbox):
    own.runtime.register(sandbox(), "empty")
    result = own.exec("empty", "ls")
    assert (result.returncode, error(result)) == (125, "exec: no container runs in VM empty")


@pytest.mark.heavy
def test_exec_whose_output_nobody_reads(tools):
    script = 'echo "$$"; exec yes'
    command = [*PROGRAM, "exec", "--socket-path", tools.path, "tools", "sh", "-c", script]
    with subprocess.Popen(
        command, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        pid = int(process.stdout.readline())
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""
    # Nothing is kept for it any more.
    with Client(tools.path) as client:
        wait_until(lambda: not execs(client), "its session is gone")
    os.kill(pid, signal.SIGKILL)  # which the agents cannot do


def execs(client: Client) -> list[dict]:
    return [each for each in client.status("tools")["vms"][0]["sessions"] if each["exec"]]


@pytest.mark.heavy
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_exec_and_the_commands_stdin(tools, tmp_path, number):
    command = [*PROGRAM, "exec", "--socket-path", tools.path, "tools", "sh", "-c"]
    script = f"echo started; cat; : > {tmp_path}/over"
    with subprocess.Popen([*command, script], cwd=TOP, **pipes()) as process:
        assert process.stdout.readline() == b"started\n"
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 128 + number
        text = b"cc-proxy: exec: interrupted; the command may go on\n"
        assert (process.stdout.read(), process.stderr.read()) == (b"", text)
    wait_until((tmp_path / "over").exists, "the command is over")


@pytest.mark.heavy
def test_exec_on_a_terminal(tools):
    with shell(tools) as terminal:
        assert is_raw(terminal)
        assert answer(terminal, "tty -s && echo $TERM") == "xterm-256color\r\n"
        wait_until(lambda: answer(terminal, "stty size") == "24 80\r\n", "it has the size")
        terminal.resize(45, 123)
        wait_until(lambda: answer(terminal, "stty size") == "45 123\r\n", "it has the new size")
        # Ctrl-C is for the command.
        interrupt_cat(terminal)
        assert answer(terminal, "echo $?") == f"{128 + signal.SIGINT}\r\n"
        terminal.send("exit 5\r")
        assert terminal.end()[0] == 5


@pytest.mark.heavy
def test_a_signal_restores_the_terminal(tools):
    with shell(tools) as terminal:
        terminal.process.terminate()
        status, shown = terminal.end()
    assert status == 128 + signal.SIGTERM
    assert "cc-proxy: exec: interrupted; the command may go on\r\n" in shown


@pytest.mark.heavy
def test_the_daemon_is_killed_under_exec(own):
    with shell(own) as terminal:
        own.daemon.process.kill()
        status, shown = terminal.end()
    assert status == 125
    (line,) = shown.splitlines()
    assert line.startswith("cc-proxy: exec: the ")
