"""The demo: it shows the whole way, carries any command, and leaves no trace."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.e2e.harness import PATIENCE_S, TOP, wait_until

pytestmark = pytest.mark.heavy

DEMO = (sys.executable, str(TOP / "ccproxy.py"), "demo")
PROMPT = "prompt> "
# Every byte, in no order that a text would have, and no multiple of a buffer's size.
DATA = bytes(range(256)) * 1171
# Says that it runs, and does not go by itself.
STUBBORN = ("sh", "-c", 'trap "" HUP INT TERM; echo started; exec cat')


class Trace:
    """What a demo leaves: its temporary files, and processes, which inherit where those are."""

    def __init__(self, directory: Path):
        directory.mkdir()
        self.directory = directory
        self.environment = os.environ | {"TMPDIR": str(directory), "PS1": PROMPT}

    def processes(self) -> list[int]:
        return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and self._is_ours(pid)]

    def _is_ours(self, pid: str) -> bool:
        with contextlib.suppress(OSError):
            variables = Path("/proc", pid, "environ").read_bytes().split(b"\0")
            return f"TMPDIR={self.directory}".encode() in variables
        return False

    def wait_for_all(self) -> None:
        """Find demo, daemon, agent and command; one that becomes another has no variables yet."""
        wait_until(lambda: len(self.processes()) == 4, "all four are found")

    def files(self) -> list[str]:
        return os.listdir(self.directory)


@pytest.fixture
def trace(tmp_path):
    """Afterwards there must be none."""
    trace = Trace(tmp_path / "tmp")
    yield trace
    left = trace.processes()
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert (left, trace.files()) == ([], [])


def run(trace, *arguments, **options):
    """Run a demo to its end; it must not leave a traceback."""
    options = {"stdin": subprocess.DEVNULL} | options if "input" not in options else options
    result = subprocess.run(
        [*DEMO, *arguments],
        env=trace.environment,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
        **options,
    )
    assert b"Traceback" not in result.stderr, result.stderr
    return result


@contextlib.contextmanager
def started(trace, *arguments, **options):
    """A demo that runs, with pipes for its streams."""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(
        [*DEMO, *arguments], env=trace.environment, **(streams | options)
    ) as demo:
        try:
            yield demo
        finally:
            end(demo)


def end(demo: subprocess.Popen[bytes]) -> None:
    """End a demo in order, as one that is killed has no chance to clean up."""
    demo.terminate()
    try:
        demo.wait(PATIENCE_S)
    finally:
        demo.kill()


# ---- what it shows


def test_it_shows_the_whole_way(trace):
    result = run(trace)
    assert (result.returncode, result.stderr) == (0, b"And this on its standard error.\n")
    shown = result.stdout.decode()
    assert re.search(r"^Hello from process \d+, on its standard output\.$", shown, re.M)
    assert "\nIt read from its standard input: a line that the shim sent\n" in shown
    assert "ProcessExited with status 7, behind the last byte of output" in shown
    assert shown.endswith(" Try:  ./ccproxy.py demo -- bash\n")
    assert shown.index("It read") < shown.index("ProcessExited") < shown.index("UnregisterVM")


@pytest.mark.parametrize("flag", ["-help", "--help", "-h"])
def test_help(trace, flag):
    result = run(trace, flag)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"cc-proxy demo [--] [COMMAND...]" in result.stdout


def test_unknown_flag(trace):
    result = run(trace, "-nope")
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr == b"cc-proxy: unknown flag -nope: see demo -help\n"


# ---- a command


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 128 + signal.SIGKILL)]
)
def test_exit_status_is_the_commands(trace, script, status):
    result = run(trace, "--", "sh", "-c", script)
    assert (result.returncode, result.stdout, result.stderr) == (status, b"", b"")


def test_stdout_and_stderr_stay_apart(trace):
    result = run(trace, "--", "sh", "-c", "echo out; echo err >&2; echo out again")
    assert (result.stdout, result.stderr) == (b"out\nout again\n", b"err\n")


def test_stdin_from_a_pipe(trace):
    assert run(trace, "--", "cat", input=DATA).stdout == DATA


def test_stdin_from_a_file(trace, tmp_path):
    (tmp_path / "data").write_bytes(DATA)
    with open(tmp_path / "data", "rb") as file:
        assert run(trace, "--", "cat", stdin=file).stdout == DATA


def test_stdin_from_nowhere(trace):
    assert run(trace, "--", "cat").stdout == b""


def test_flags_behind_the_command_are_its_own(trace):
    result = run(trace, "echo", "-version", "--", "-help")
    assert result.stdout == b"-version -- -help\n"


def test_environment_and_directory_are_the_demos(trace, tmp_path):
    trace.environment["GREETING"] = "two  words"
    result = run(trace, "--", "sh", "-c", 'pwd; echo "$GREETING"', cwd=tmp_path)
    assert result.stdout.decode() == f"{tmp_path}\ntwo  words\n"


def test_a_command_that_does_not_exist(trace):
    result = run(trace, "--", "/no/such/program")
    assert (result.returncode, result.stdout) == (1, b"")
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("cc-proxy: the demo failed: ")
    assert "/no/such/program" in line


def test_a_demo_without_standard_streams(trace):
    script = 'exec "$@" <&- >&- 2>&-'
    command = ["sh", "-c", script, "sh", *DEMO, "--", "sh", "-c", "echo out; echo err >&2; exit 3"]
    result = subprocess.run(command, env=trace.environment, timeout=PATIENCE_S, check=False)
    assert result.returncode == 3


# ---- an early end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle(trace, number):
    with started(trace, "--", *STUBBORN) as demo:
        assert demo.stdout.readline() == b"started\n"
        trace.wait_for_all()
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 128 + number
    assert errors == b"\ninterrupted; everything is cleaned up\n"


def test_an_impatient_user_does_not_stop_the_cleaning_up(trace):
    with started(trace, "--", *STUBBORN) as demo:
        assert demo.stdout.readline() == b"started\n"
        trace.wait_for_all()
        demo.terminate()
        wait_until(lambda: len(trace.processes()) < 4, "the cleaning up has begun")
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 128 + signal.SIGTERM
    assert errors == b"\ninterrupted; everything is cleaned up\n"


def test_a_signal_while_it_starts(trace):
    with started(trace) as demo:
        wait_until(trace.files, "the demo begins")
        demo.terminate()
        _, errors = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 128 + signal.SIGTERM
    assert errors == b"\ninterrupted; everything is cleaned up\n"


def test_nobody_reads_what_it_shows(trace):
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as shown, open(writer, "wb", buffering=0) as pipe:
        # It has room for the first line, but not for all: the demo is not through with it.
        taken = fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, select.PIPE_BUF) - 256
        pipe.write(bytes(taken))
        with started(trace, stdout=pipe) as demo:
            pipe.close()
            wait_until(lambda: unread_bytes(shown) > taken, "the first line is shown")
            shown.close()
            assert demo.wait(PATIENCE_S) == 128 + signal.SIGPIPE
            assert demo.stderr.read() == b""


def unread_bytes(pipe) -> int:
    count = fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))
    return int.from_bytes(count, sys.byteorder)


def test_nobody_reads_what_its_command_shows(trace):
    with started(trace, "--", "yes") as demo:
        assert demo.stdout.readline()
        demo.stdout.close()
        assert demo.wait(PATIENCE_S) == 128 + signal.SIGPIPE
        assert demo.stderr.read() == b""


# ---- on a terminal


class Terminal:
    """A demo on a pseudo terminal, and the user in front of it."""

    def __init__(self, trace: Trace):
        self._trace = trace
        self._screen = b""
        self._shown_bytes = 0
        self._master, self._slave = os.openpty()
        self.modes_before = self.modes()
        self.set_size(24, 80)

    def start(self, *command: str, **streams) -> subprocess.Popen[bytes]:
        ours = dict.fromkeys(("stdin", "stdout", "stderr"), self._slave)
        return subprocess.Popen(
            [*DEMO, "--", *command],
            env=self._trace.environment,
            start_new_session=True,
            # Only then do its keys and its changes of size become signals.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
            **(ours | streams),
        )

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def read_until(self, text: str) -> str:
        """What is shown up to and with ``text``, behind what was read before."""
        deadline_s = time.monotonic() + PATIENCE_S
        while (found := self._screen.find(text.encode(), self._shown_bytes)) < 0:
            ready, _, _ = select.select([self._master], [], [], deadline_s - time.monotonic())
            assert ready, f"timeout waiting for {text!r} in {self._screen!r}"
            self._screen += os.read(self._master, 65536)
        start, self._shown_bytes = self._shown_bytes, found + len(text)
        return self._screen[start : self._shown_bytes].decode()

    def run(self, line: str) -> str:
        """Type a line at the prompt; what is shown up to the next prompt, without its echo."""
        self.type(line + "\r")
        self.read_until(f"{line}\r\n")
        return self.read_until(PROMPT).removesuffix(PROMPT)

    def set_size(self, rows: int, columns: int) -> None:
        """Set the size; the kernel tells the processes in front of the terminal by SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def modes(self) -> list:
        return termios.tcgetattr(self._slave)

    def is_raw(self) -> bool:
        return not self.modes()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def hang_up(self) -> None:
        for descriptor in (self._master, self._slave):
            with contextlib.suppress(OSError):
                os.close(descriptor)


@pytest.fixture
def terminal(trace):
    terminal = Terminal(trace)
    yield terminal
    terminal.hang_up()


@pytest.fixture
def shell(terminal):
    """A demo with a shell at its first prompt; ``terminal`` shows it."""
    with terminal.start("sh") as demo:
        try:
            terminal.read_until(PROMPT)
            yield demo
        finally:
            end(demo)


def test_a_shell_on_a_terminal(terminal, shell):
    assert terminal.is_raw()
    assert terminal.run("echo $((6 * 7)); test -t 0 && test -t 2 && echo yes") == "42\r\nyes\r\n"
    terminal.type("exit 5\r")
    assert shell.wait(PATIENCE_S) == 5
    assert terminal.modes() == terminal.modes_before


def test_the_size_of_the_terminal_is_the_commands(terminal, shell):
    def size_is(size: str) -> bool:
        return terminal.run("stty size") == f"{size}\r\n"

    # The size travels beside the keys, so it may arrive behind them.
    wait_until(lambda: size_is("24 80"), "the shell has the terminal's size")
    terminal.set_size(45, 123)
    wait_until(lambda: size_is("45 123"), "the shell has the terminal's new size")


def test_ctrl_c_is_for_the_command(terminal, shell):
    terminal.type("cat\r")
    terminal.read_until("cat\r\n")
    terminal.type("hello\r")
    terminal.read_until("hello\r\nhello\r\n")
    terminal.type("\x03")
    terminal.read_until(PROMPT)
    assert terminal.run("echo $?") == f"{128 + signal.SIGINT}\r\n"
    assert shell.poll() is None


def test_ctrl_d_ends_the_shell(terminal, shell):
    terminal.type("\x04")
    assert shell.wait(PATIENCE_S) == 0


def test_a_signal_restores_the_terminal(terminal, shell):
    assert terminal.is_raw()
    shell.terminate()
    terminal.read_until("interrupted; everything is cleaned up")
    assert shell.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert terminal.modes() == terminal.modes_before


def test_the_terminal_is_closed(trace, terminal, shell):
    assert trace.processes()
    terminal.hang_up()
    assert shell.wait(PATIENCE_S) == 128 + signal.SIGHUP


def test_output_in_a_pipe_needs_no_terminal(trace, terminal):
    with terminal.start("sh", "-c", "test -t 0 || echo none", stdout=subprocess.PIPE) as demo:
        assert demo.stdout.read() == b"none\n"
        assert not terminal.is_raw()
        assert demo.wait(PATIENCE_S) == 0
