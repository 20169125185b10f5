"""The real program by its command line: what it says, how it ends, what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ccproxy_lib.wire.frames import Command, Stream, Type
from tests.e2e.harness import PATIENCE_S, TOP, Client, Refused, wait_until

pytestmark = pytest.mark.heavy


PROGRAM = (sys.executable, "-m", "ccproxy_lib")
SCRIPT = TOP / "ccproxy.py"
# No installed package can be found: only the standard library and the checkout.
BARE = (
    sys.executable,
    "-I",
    "-S",
    "-c",
    f"import sys; sys.path.insert(0, {str(TOP)!r})\n"
    "from ccproxy_lib.front.entry import main; sys.exit(main())",
)
# Closes the standard streams of what it becomes.
WITHOUT_STREAMS = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
VERSION = re.compile(r"Version: \d+\.\d+\.\d+-\S+\n")
LEVELS = ("debug", "info", "warn", "error")


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "CC_PROXY_LOG_LEVEL"}
    return inherited | (more or {})


def run(*arguments, program=PROGRAM, env=None, cwd=TOP, stdout=subprocess.PIPE):
    """Run the program to its end; it must not leave a traceback."""
    result = subprocess.run(
        [*program, *arguments],
        env=environment(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Traceback" not in result.stderr, result.stderr
    return result


def refusal(*arguments, status: int, **options) -> str:
    """What the program says when it does not start, which is one line."""
    result = run(*arguments, **options)
    assert (result.returncode, result.stdout) == (status, ""), result
    (line,) = result.stderr.splitlines(keepends=True)
    assert line.startswith("cc-proxy: ")
    assert line.endswith("\n")
    return line.removeprefix("cc-proxy: ").removesuffix("\n")


class Running:
    """The daemon, seen only through its socket and its output."""

    def __init__(self, directory: Path, path: Path, *flags: str, program=PROGRAM, env=None):
        self.path = path
        self._outputs = (directory / "stdout", directory / "stderr")
        with open(self._outputs[0], "wb") as out, open(self._outputs[1], "wb") as err:
            self._process = subprocess.Popen(
                [*program, "-ksm", "initial", *flags],
                env=environment(env),
                cwd=TOP,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        try:
            wait_until(self._listens, "the daemon listens")
            with Client(str(self.path)) as client:
                # Behind this answer it is ready for signals, too.
                assert_answers(client)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def _listens(self) -> bool:
        assert self._process.poll() is None, self.stderr
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(self.path))
            return True
        return False

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def stderr(self) -> str:
        return self._outputs[1].read_text()

    def send_log_entries(self) -> None:
        """Send a shim's log entry of each level, and wait until they are handled."""
        with Client(str(self.path)) as client:
            for level in LEVELS:
                entry = {"source": "shim", "level": level, "msg": f"a-{level}-entry"}
                client.send(Type.STREAM, Stream.LOG, json.dumps(entry).encode())
            assert_answers(client)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self._process.send_signal(number)
        status = self._process.wait(PATIENCE_S)
        assert self._outputs[0].read_text() == ""
        assert "Traceback" not in self.stderr
        return status


def assert_answers(client: Client) -> None:
    with pytest.raises(Refused, match="unknown token"):
        client.call(Command.CONNECT_SHIM, {"token": "x"})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "proxy.sock"


@pytest.fixture
def start(tmp_path, path):
    """Start a daemon that listens at ``path``, unless the test says where."""
    started = []

    def start(*flags, at=None, **options):
        where = () if at else ("-socket-path", str(path))
        started.append(Running(tmp_path, at or path, *where, *flags, **options))
        return started[-1]

    yield start
    for running in started:
        if running.running:
            running.stop()


# ---- help and version


@pytest.mark.parametrize("flag", ["-help", "--help", "-h", "--h", "-help=true"])
def test_help(flag):
    result = run(flag)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Usage:" in result.stdout
    assert "-socket-path PATH" in result.stdout


def test_help_asked_for_in_all_ways_at_once():
    assert run("-h", "-help", "--help").returncode == 0


@pytest.mark.parametrize(
    "flags",
    [
        ("-version",),
        ("--version",),
        ("-version=true",),
        ("--version=1",),
        ("-version", "-nope"),
        ("-nope", "-version"),
        ("-log", "loud", "-version"),
        ("-uri", "tcp://x", "-version"),
        ("-version", "-socket-path"),
    ],
)
def test_version_whatever_else_is_wrong(flags):
    result = run(*flags)
    assert (result.returncode, result.stderr) == (0, "")
    assert VERSION.fullmatch(result.stdout)


def test_version_without_the_dependencies():
    result = run("-version", program=BARE)
    assert result.returncode == 0, result.stderr
    assert VERSION.fullmatch(result.stdout)


def test_version_is_not_printed_if_it_is_false(path):
    path.write_text("in the way")
    assert "no socket" in refusal("-version=false", "-socket-path", str(path), status=1)


@pytest.mark.parametrize("command", [(), ("-help",), ("demo",), ("agent",)])
def test_missing_dependencies_are_named_in_a_sentence(command):
    line = refusal(*command, status=1, program=BARE)
    assert re.match(r"the Python package \w+ is missing: run 'make demo' ", line)


@pytest.mark.parametrize("by_link", [False, True])
def test_the_script_runs_from_anywhere(tmp_path, by_link):
    script = SCRIPT
    if by_link:
        script = tmp_path / "cc-proxy"
        script.symlink_to(SCRIPT)
    search = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    result = run("-help", program=(str(script),), cwd=tmp_path, env={"PATH": search})
    assert (result.returncode, result.stderr) == (0, "")
    assert "Usage:" in result.stdout


@pytest.mark.parametrize("flag", ["-help", "-version"])
def test_nobody_reads_what_it_prints(flag):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = run(flag, stdout=writer)
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, "")


# ---- a wrong command line


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("-nope",), "unknown flag -nope: see -help"),
        (("--nope=1",), "unknown flag --nope: see -help"),
        (("-log",), "flag -log needs a value: see -help"),
        (("-log", "info", "-socket-path"), "flag -socket-path needs a value: see -help"),
        (("-log", "loud"), "unknown log level 'loud': use debug, info, warn, "),
        (("-log=3",), "unknown log level '3': use debug, info, warn, "),
        (("-uri", "tcp://x"), "'tcp://x' is not the address of a Unix socket"),
        (("-uri=",), "'' is not the address of a Unix socket"),
        (("-help=maybe",), "flag -help takes true or false, got 'maybe'"),
        (("stray",), "unexpected argument 'stray': see -help"),
        (("--", "-log"), "unexpected argument '-log': see -help"),
    ],
    ids=str,
)
def test_bad_usage(flags, reason):
    assert refusal(*flags, status=2).startswith(reason)


def test_bad_level_in_the_environment():
    line = refusal(status=2, env={"CC_PROXY_LOG_LEVEL": "loud"})
    assert line.startswith("unknown log level 'loud'")


# ---- settings from elsewhere


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "cc-proxy.conf"
    path.write_text("[proxy]\nlog = info\n[limits]\nmax-vms = 7\nmax-clients = 7\n")
    return path


def test_a_file_is_served_by(start, config):
    daemon = start("-config", str(config))
    daemon.send_log_entries()
    assert daemon.stop() == 0
    assert levels_in(daemon.stderr) == ["info", "warn", "error"]


def test_what_counts_and_where_it_is_from(config, path):
    env = {"CC_PROXY_CONFIG": str(config), "CC_PROXY_MAX_CLIENTS": "8", "CC_PROXY_MAX_VMS": "x"}
    result = run("-max-vms=9", "--check-config", "-socket-path", str(path), env=env)
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.split(maxsplit=4) for line in result.stdout.splitlines()]
    assert ["log", "=", "info", "#", f"{config}, line 2"] in lines
    assert ["max-clients", "=", "8", "#", "CC_PROXY_MAX_CLIENTS"] in lines
    assert ["max-vms", "=", "9", "#", "-max-vms"] in lines
    assert ["max-tokens", "=", "16384", "#", "default"] in lines
    assert not path.exists()


@pytest.mark.parametrize("flags", [(), ("-check-config",), ("-log=info", "-max-vms", "1")])
def test_a_wrong_file(config, flags):
    config.write_text("[limits]\n\nmax-vms = many\n")
    line = refusal("-config", str(config), *flags, status=2)
    problem = "flag -max-vms needs a whole number more than 0, got 'many'"
    assert line == f"{problem} ({config}, line 3)"
    config.write_text("[limits]\nmaxvms = 1\n")
    line = refusal("-config", str(config), *flags, status=2)
    assert line.startswith(f"{config}, line 2: unknown setting 'maxvms': ")


def test_a_file_that_is_not_there(tmp_path):
    line = refusal("-config", str(tmp_path / "x"), status=2)
    assert line == f"cannot read the settings in {tmp_path}/x: No such file or directory"


def test_a_wrong_variable():
    line = refusal("-check-config", status=2, env={"CC_PROXY_MAX_VMS": "many"})
    assert line.endswith("got 'many' (CC_PROXY_MAX_VMS)")


# ---- no start


def test_path_too_long():
    line = refusal("-socket-path", "/" + "x" * 107, status=1)
    assert line == "socket path too long 108 (max 107)"


def test_a_live_socket_is_refused(start, path):
    first = start()
    line = refusal("-socket-path", str(path), status=1)
    assert line == f"{path} is in use by a running daemon: stop it, or use another path"
    first.send_log_entries()
    assert first.stop() == 0


def test_a_plain_file_is_refused(path):
    path.write_text("precious")
    line = refusal("-socket-path", str(path), status=1)
    assert line == f"{path} exists and is no socket: remove it, or use another path"
    assert path.read_text() == "precious"


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    line = refusal("-socket-path", str(tmp_path / "file" / "sub" / "proxy.sock"), status=1)
    assert line == f"cannot create the directory {tmp_path}/file/sub: Not a directory"


def test_a_socket_in_what_is_no_directory(tmp_path):
    (tmp_path / "file").touch()
    line = refusal("-socket-path", str(tmp_path / "file" / "proxy.sock"), status=1)
    assert line == f"cannot look at {tmp_path}/file/proxy.sock: Not a directory"


def test_no_start_and_nobody_to_tell(path):
    path.touch()
    result = run("-socket-path", str(path), program=(*WITHOUT_STREAMS, *PROGRAM))
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "")


# ---- where it listens


def test_socket_path(start, tmp_path):
    path = tmp_path / "new" / "proxy.sock"
    assert start(f"--socket-path={path}", at=path).stop() == 0
    assert path.parent.is_dir()


@pytest.mark.parametrize("scheme", ["unix://", ""])
def test_uri_with_and_without_its_scheme(start, path, scheme):
    assert start("-uri", f"{scheme}{path}", at=path).stop() == 0


@pytest.mark.parametrize("path_first", [True, False])
def test_socket_path_wins_over_uri(start, tmp_path, path, path_first):
    other = tmp_path / "other.sock"
    flags = [("-socket-path", str(path)), ("-uri", f"unix://{other}")]
    first, second = flags if path_first else reversed(flags)
    start(*first, *second, at=path)
    assert not other.exists()


def test_the_last_of_equal_flags_counts(start, tmp_path, path):
    unused = tmp_path / "unused.sock"
    start("-socket-path", str(unused), "-socket-path", str(path), at=path)
    assert not unused.exists()


def test_a_dead_socket_is_replaced(start, path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert start().stop() == 0


# ---- what it logs


def levels_in(log: str) -> list[str]:
    return [level for level in LEVELS if f"a-{level}-entry" in log]


@pytest.mark.parametrize(
    ("flags", "variable", "lowest"),
    [
        ((), None, "warn"),
        ((), "", "warn"),
        (("-log", "debug"), None, "debug"),
        (("-log=Info",), None, "info"),
        (("--log", "WARNING"), None, "warn"),
        (("-log", "error"), None, "error"),
        (("-log", "panic"), None, None),
        (("-log", "1"), None, "info"),
        ((), "2", "debug"),
        ((), "INFO", "info"),
        (("-log", "error"), "debug", "error"),
        (("-log", "debug"), "error", "debug"),
        (("-log", "info"), "loud", "info"),
    ],
)
def test_level(start, flags, variable, lowest):
    env = {} if variable is None else {"CC_PROXY_LOG_LEVEL": variable}
    daemon = start(*flags, env=env)
    daemon.send_log_entries()
    assert daemon.stop() == 0
    expected = LEVELS[LEVELS.index(lowest) :] if lowest else ()
    assert levels_in(daemon.stderr) == list(expected)


# ---- how it ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_in_order(start, path, number):
    assert start().stop(number) == 0
    assert not path.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_as_soon_as_its_file_is_there(path, number):
    program = subprocess.Popen([*PROGRAM, "-ksm", "initial", "-socket-path", str(path)], cwd=TOP)
    while not path.exists():
        assert program.poll() is None
    program.send_signal(number)
    assert program.wait(PATIENCE_S) == 0
    assert os.listdir(path.parent) == []


def test_the_end_of_a_terminal_is_no_matter_under_nohup(path):
    command = ["nohup", *PROGRAM, "-ksm", "initial", "-socket-path", str(path)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=TOP, **pipes) as program:
        wait_until(path.exists, "the socket's file is there")
        program.send_signal(signal.SIGHUP)
        with Client(str(path)) as runtime:
            assert runtime.call(Command.STATUS, {})
        # That the signal is held back, and comes later, would not do.
        status = Path(f"/proc/{program.pid}/status").read_text()
        ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
        assert ignored & 1 << signal.SIGHUP - 1
        program.terminate()
        assert program.wait(PATIENCE_S) == 0


def test_it_ends_in_order_with_clients_there(start, path):
    daemon = start()
    with Client(str(path)) as client:
        assert_answers(client)
        assert daemon.stop() == 0
        assert client.frame() is None


def test_a_file_that_took_the_sockets_place_survives(start, path):
    daemon = start()
    path.unlink()
    path.write_text("precious")
    assert daemon.stop() == 0
    assert path.read_text() == "precious"


def test_it_needs_no_standard_streams(start):
    daemon = start("-log", "debug", program=(*WITHOUT_STREAMS, *PROGRAM))
    daemon.send_log_entries()
    assert daemon.stop() == 0
