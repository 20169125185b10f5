"""The socket's file: made as clients need it, and nobody else's is ever touched."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from ccproxy_lib.errors import StartError, UsageError
from ccproxy_lib.host.listener import MAX_PATH_BYTES, Listener, path_of_uri


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "proxy.sock")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        assert os.umask(before) == mask


def mode_of(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def assert_serves(listening: socket.socket, path: str) -> None:
    """What is sent to ``path`` arrives at ``listening``, behind clients that came before."""
    listening.settimeout(30)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"hello")
        data = b""
        while not data:
            with listening.accept()[0] as served:
                data = served.recv(100)
        assert data == b"hello"


def bound(path: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(path)
    return made


# ---- addresses


@pytest.mark.parametrize("uri", ["unix:///run/x.sock", "/run/x.sock"])
def test_path_of_uri(uri: str) -> None:
    assert path_of_uri(uri) == "/run/x.sock"


@pytest.mark.parametrize("uri", ["", "unix://", "tcp://host:1", "http:///run/x.sock"])
def test_no_address_of_a_unix_socket(uri: str) -> None:
    with pytest.raises(UsageError, match=f"^'{uri}' is not the address of a Unix socket"):
        path_of_uri(uri)


def test_clients_are_told_an_absolute_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(Listener("proxy.sock")) as listener:
        assert listener.uri == f"unix://{tmp_path}/proxy.sock"


# ---- what it makes


def test_it_listens(path: str) -> None:
    with closing(Listener(path)) as listener:
        assert_serves(listener.socket, path)


@pytest.mark.parametrize("mask", [0, 0o077])
def test_the_mode_is_0660_whatever_the_umask(path: str, mask: int) -> None:
    with umask(mask), closing(Listener(path)):
        assert mode_of(path) == 0o660


def test_all_missing_directories_are_made_with_0750(tmp_path: Path) -> None:
    deepest = tmp_path / "a" / "b" / "c"
    with umask(0), closing(Listener(str(deepest / "proxy.sock"))):
        assert [mode_of(each) for each in (deepest, *deepest.parents[:2])] == [0o750] * 3


def test_directories_that_are_there_keep_their_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    with closing(Listener(str(tmp_path / "a" / "proxy.sock"))):
        assert mode_of(tmp_path) == 0o711


@pytest.mark.parametrize("between", ["", "sub"])
def test_a_directory_that_cannot_be_made(tmp_path: Path, between: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(StartError, match="Not a directory$"):
        Listener(str(tmp_path / "file" / between / "proxy.sock"))
    assert (tmp_path / "file").read_text() == "kept"


def test_the_longest_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    longest = "x" * MAX_PATH_BYTES
    with closing(Listener(longest)) as listener:
        assert_serves(listener.socket, longest)


@pytest.mark.parametrize("path", ["/" + "x" * 107, "/x" + "é" * 53])
def test_a_path_is_too_long_by_its_bytes(path: str) -> None:
    with pytest.raises(StartError, match=r"^socket path too long 108 \(max 107\)$"):
        Listener(path)


# ---- what is there already


def test_a_live_socket_is_refused_and_works_on(path: str) -> None:
    with bound(path) as other:
        other.listen()
        with pytest.raises(StartError, match=f"^{path} is in use by a running daemon"):
            Listener(path)
        assert_serves(other, path)


def test_a_live_socket_with_a_full_backlog_is_refused(path: str) -> None:
    with bound(path) as other, ExitStack() as clients:
        other.listen(0)
        with pytest.raises(BlockingIOError):
            while True:
                client = clients.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(path)
        with pytest.raises(StartError, match="in use"):
            Listener(path)
        assert os.path.exists(path)


def test_a_live_socket_of_another_kind_is_refused(path: str) -> None:
    with bound(path, socket.SOCK_DGRAM), pytest.raises(StartError, match="in use"):
        Listener(path)
    assert os.path.exists(path)


def test_a_plain_file_is_refused_and_left_alone(path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(StartError, match=f"^{path} exists and is no socket"):
        Listener(path)
    assert Path(path).read_text() == "precious"


def test_a_directory_is_refused(path: str) -> None:
    os.mkdir(path)
    with pytest.raises(StartError, match="exists and is no socket"):
        Listener(path)
    assert os.path.isdir(path)


def test_a_symbolic_link_is_refused_even_to_a_dead_socket(path: str, tmp_path: Path) -> None:
    target = str(tmp_path / "target")
    bound(target).close()
    os.symlink(target, path)
    with pytest.raises(StartError, match="exists and is no socket"):
        Listener(path)
    assert os.path.islink(path)
    assert os.path.exists(target)


def test_a_dead_socket_is_replaced(path: str) -> None:
    bound(path).close()
    with closing(Listener(path)) as listener:
        assert_serves(listener.socket, path)


# ---- the end


def test_its_file_is_gone_at_close(path: str) -> None:
    Listener(path).close()
    assert not os.path.lexists(path)


def test_a_file_that_is_gone_already_is_no_error(path: str) -> None:
    listener = Listener(path)
    os.unlink(path)
    listener.close()


def test_a_socket_that_took_its_place_works_on(path: str) -> None:
    first = Listener(path)
    os.unlink(path)
    with closing(Listener(path)) as second:
        first.close()
        assert_serves(second.socket, path)


def test_a_file_that_took_its_place_is_left_alone(path: str) -> None:
    listener = Listener(path)
    os.unlink(path)
    Path(path).write_text("precious")
    listener.close()
    assert Path(path).read_text() == "precious"
