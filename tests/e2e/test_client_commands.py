"""Commands that use a running daemon: shim, exec, hyper."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import termios

import pytest

from ccproxy_lib.client import Client
from ccproxy_lib.errors import UsageError
from ccproxy_lib.front import exec, hyper, shim
from ccproxy_lib.front.shim import FORWARDED
from ccproxy_lib.wire import ctl
from tests.e2e.harness import PATIENCE_S, TOP, Refused, SandboxVm, container, wait_until
from tests.e2e.relay import Relay
from tests.e2e.terminal import Terminal

PROGRAM = (sys.executable, "-m", "ccproxy_lib")
# Every byte, in no order that a text would have, and no multiple of a buffer's size.
DATA = bytes(range(256)) * 1171
PROMPT = "prompt> "


class Tools:
    """A VM on the daemon, with a container in it, and the commands."""

    def __init__(self, path: str, vm_id: str, runtime):
        self.path = path
        self.vm_id = vm_id
        self.runtime = runtime

    def run(self, *arguments, **options):
        """Run a command to its end; it must not leave a traceback, nor more than one line."""
        options = {"stdin": subprocess.DEVNULL} | options if "input" not in options else options
        result = subprocess.run(
            [*PROGRAM, *arguments],
            cwd=TOP,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
            **options,
        )
        assert b"Traceback" not in result.stderr, result.stderr
        return result

    def hyper(self, *arguments, **options):
        return self.run("hyper", "--socket-path", self.path, *arguments, **options)

    def exec(self, *arguments, **options):
        return self.run("exec", "--socket-path", self.path, *arguments, **options)

    def token(self) -> str:
        return self.runtime.attach(self.vm_id, 1)[0]

    def shim(self, token: str, *more: str, path: str = "") -> list[str]:
        """The command line of a shim."""
        address = f"unix://{path or self.path}"
        return [*PROGRAM, "shim", "-c", "the-container", "-t", token, "-u", address, *more]

    @contextlib.contextmanager
    def started_shim(self, *process, path: str = "", flags=(), **data):
        """A shim with pipes, and its process."""
        token = self.token()
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = self.shim(token, *flags, path=path)
        with subprocess.Popen(command, cwd=TOP, **streams) as running:
            try:
                self.runtime.hyper("newcontainer", container(token, *process, **data), token)
                yield running
                assert running.stderr.closed or token.encode() not in running.stderr.read()
            finally:
                running.kill()


@pytest.fixture(scope="module")
def service(shared_daemon, tmp_path_factory):
    """A VM with the container "first" on the shared daemon, for all tests here."""
    before = shared_daemon.descriptors(), shared_daemon.greenlets()
    vm = SandboxVm(tmp_path_factory.mktemp("tools"))
    with shared_daemon.client() as runtime:
        runtime.register(vm, "tools")
        runtime.hyper("newcontainer", container("first", "sleep", "1000"))
        yield Tools(shared_daemon.path, "tools", runtime)
    vm.stop()
    wait_until(
        lambda: (shared_daemon.descriptors(), shared_daemon.greenlets()) == before, "all is closed"
    )


@pytest.fixture
def tools(service, daemon):
    """Afterwards the daemon has what it had before."""
    return service


@pytest.fixture
def own(start_daemon, sandbox):
    """The same on a daemon of the test's own, which it may kill."""
    daemon, vm = start_daemon(), sandbox()
    with daemon.client() as runtime:
        runtime.register(vm, "tools")
        runtime.hyper("newcontainer", container("first", "sleep", "1000"))
        tools = Tools(daemon.path, "tools", runtime)
        tools.daemon = daemon
        yield tools


@contextlib.contextmanager
def on_terminal(*arguments: str, **options):
    terminal = Terminal(*arguments, **options)
    try:
        yield terminal
    finally:
        terminal.close()


def is_raw(terminal: Terminal) -> bool:
    return not terminal.modes()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


def error(result) -> str:
    """The one line that tells what was wrong."""
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("cc-proxy: ")
    return line.removeprefix("cc-proxy: ")


# ---- what all have in common


@pytest.mark.parametrize("module", [shim, exec, hyper])
def test_help_fits_a_page(module, capsys):
    name = module.__name__.rpartition(".")[2]
    assert module.main([name, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"cc-proxy {name}: ")
    assert len(lines) <= 42
    assert max(map(len, lines)) <= 90


@pytest.mark.parametrize(
    ("module", "arguments", "text"),
    [
        (shim, ("-t", "x"), "the shim needs --container-id"),
        (shim, ("-c", "x"), "the shim needs --token"),
        (shim, ("-c", "x", "-t", "y", "--nope"), "wrong arguments for shim"),
        (shim, ("-c", "x", "-t", "y", "-r", "soon"), "needs a number of seconds, got 'soon'"),
        (exec, (), "wrong arguments for exec"),
        (exec, ("vm",), "wrong arguments for exec"),
        (exec, ("vm", "-t"), "wrong arguments for exec"),
        (exec, ("vm", "-x", "ls"), "wrong arguments for exec"),
        (exec, ("vm", "--env", "=", "ls"), "option --env needs NAME=VALUE, got '='"),
        (hyper, ("vm",), "wrong arguments for hyper"),
        (hyper, ("vm", "ping", "{"), "the data of the command is no JSON"),
        (hyper, ("vm", "ping", "--timeout", "-1"), "needs a number of seconds, got '-1'"),
        (hyper, ("vm", "ping", "--timeout=inf"), "needs a number of seconds, got 'inf'"),
    ],
)
def test_a_wrong_command_line(module, arguments, text):
    with pytest.raises(UsageError, match=re.escape(text)):
        module.main([module.__name__.rpartition(".")[2], *arguments])


@pytest.mark.heavy
def test_a_wrong_command_line_is_status_2_and_one_line(tools):
    result = tools.run("exec", "vm")
    assert (result.returncode, result.stdout) == (2, b"")
    assert error(result) == "wrong arguments for exec: see 'cc-proxy exec --help'"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("shim", "-c", "x", "-t", "a-token"), 1),
        (("exec", "vm", "ls"), 125),
        (("hyper", "vm", "ping"), 1),
    ],
)
def test_no_proxy_is_there(tools, tmp_path, arguments, status):
    path = str(tmp_path / "none.sock")
    command, *rest = arguments
    result = tools.run(command, "--socket-path", path, *rest)
    assert (result.returncode, result.stdout) == (status, b"")
    assert error(result).endswith(
        f"cannot connect to the proxy at {path}: No such file or directory"
    )


@pytest.mark.heavy
def test_gevent_is_not_imported(tools):
    script = (
        "import sys; from ccproxy_lib.front.entry import main\n"
        f"main(['hyper', 'tools', 'ping', '--socket-path', {tools.path!r}])\n"
        "import ccproxy_lib.front.exec, ccproxy_lib.front.shim\n"
        "print([name for name in sys.modules if name in ('gevent', 'ujson', 'logging')])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=TOP, capture_output=True, check=True
    )
    assert result.stdout == b"[]\n"


@pytest.mark.heavy
def test_a_link_named_cc_shim_is_the_shim(tools, tmp_path):
    link = tmp_path / "cc-shim"
    link.symlink_to(TOP / "ccproxy.py")
    arguments = tools.shim("a-token")[len(PROGRAM) + 1 :]
    result = subprocess.run(
        [sys.executable, link, *arguments], capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert (result.returncode, result.stdout) == (1, b"")
    assert error(result) == "shim of the-container: unknown token: ***"


# ---- hyper


def test_hyper_prints_the_answer(tools):
    plain = tools.hyper("tools", "pscontainer", '{"container":"first"}')
    assert (plain.returncode, plain.stderr) == (0, b"")
    assert [entry["name"] for entry in json.loads(plain.stdout)] == ["sleep"]
    line = tools.hyper("tools", "pscontainer", '{"container":"first"}', "--json")
    assert line.stdout.endswith(b"\n")
    assert json.loads(line.stdout) == json.loads(plain.stdout)


@pytest.mark.heavy
def test_hyper_with_nothing_to_print(tools):
    assert tools.hyper("tools", "ping").stdout == b""
    assert tools.hyper("tools", "ping", "--json").stdout == b"null\n"
    # No JSON at all: a number of four bytes.
    assert tools.hyper("tools", "version").stdout == b"\x00\x00\x10\x92"
    assert json.loads(tools.hyper("--json", "tools", "version").stdout) == "\0\0\x10\\x92"


@pytest.mark.heavy
def test_hyper_on_a_terminal_is_for_people(tools):
    arguments = ("--socket-path", tools.path, "tools")
    with on_terminal("hyper", *arguments, "pscontainer", '{"container":"first"}') as terminal:
        status, shown = terminal.end()
    assert status == 0
    assert shown.startswith('[\r\n  {\r\n    "pid": ')
    with on_terminal("hyper", *arguments, "version") as terminal:
        assert terminal.end() == (0, "\\x00\\x00\\x10\\x92\r\n")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("nope", "ping"), "hyper: unknown containerID: nope"),
        (("tools", "nope"), "hyper: unknown command 'nope'"),
        (
            ("tools", "pscontainer", '{"container":"nope"}'),
            "hyper: ERROR received from VM agent, control msg received : unknown container: nope",
        ),
    ],
)
def test_hyper_is_refused(tools, arguments, text):
    result = tools.hyper(*arguments)
    assert (result.returncode, result.stdout, error(result)) == (1, b"", text)


@pytest.mark.heavy
@pytest.mark.parametrize("command", [["hyper"], ["exec", "--container=c"]])
def test_what_a_vm_says_does_not_play_with_the_terminal(tools, daemon, registered, vm_id, command):
    vm, _ = registered
    rest = [vm_id, "ping"]
    command = [*PROGRAM, *command, "--socket-path", daemon.path, *rest]
    with subprocess.Popen(command, cwd=TOP, **pipes()) as running:
        vm.refuse(b"\x1b]0;x\x07\nmore")
        _, shown = running.communicate(timeout=PATIENCE_S)
    assert shown.decode().endswith(r" : \x1b]0;x\x07\nmore" + "\n")


def test_hyper_prints_what_cannot_be_read():
    deep = b"[" * 200_000
    assert hyper._one_line(deep) == json.dumps(deep.decode())
    assert hyper._for_people(deep) == deep.decode() + "\n"


# ---- exec


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


def pipes() -> dict:
    return dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)


@contextlib.contextmanager
def shell(tools, *more: str):
    """A shell of exec at its prompt, on a terminal."""
    arguments = ("exec", "tools", "-t", *more, "--env", f"PS1={PROMPT}")
    with on_terminal(*arguments, "--socket-path", tools.path, "sh") as terminal:
        terminal.expect_exact(PROMPT)
        yield terminal


def answer(terminal: Terminal, line: str) -> str:
    """Type a line at the prompt; what is shown for it."""
    terminal.send(line + "\r")
    terminal.expect_exact(f"{line}\r\n")
    terminal.expect_exact(PROMPT)
    return terminal.before


def interrupt_cat(terminal: Terminal) -> None:
    """Run a program that ends with Ctrl-C only, and end it once it runs."""
    terminal.send("cat\r")
    terminal.expect_exact("cat\r\n")
    terminal.send("hello\r")
    terminal.expect_exact("hello\r\nhello\r\n")
    terminal.send("\x03")
    terminal.expect_exact(PROMPT)


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


# ---- shim


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
