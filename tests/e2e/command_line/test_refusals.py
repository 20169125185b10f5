"""What the program says when it does not start."""

from __future__ import annotations

import pytest

from tests.e2e.command_line.program import WITHOUT_STREAMS, refusal, run
from tests.e2e.harness import PROGRAM

pytestmark = pytest.mark.heavy


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
