"""The socket's file: made as clients need it, and nobody else's is ever touched."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from ccproxy_lib.errors import StartError, UsageError
from ccproxy_lib.host import listener as listener_module
from ccproxy_lib.host.listener import MAX_PATH_BYTES, BoundListener, path_of_uri

PATIENCE_S = 30.0


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
    listening.settimeout(PATIENCE_S)
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
    with closing(BoundListener("proxy.sock")) as listener:
        assert listener.uri == f"unix://{tmp_path}/proxy.sock"


# ---- what it makes


def test_it_listens(path: str) -> None:
    with closing(BoundListener(path)) as listener:
        assert_serves(listener.socket, path)


@pytest.mark.parametrize("mask", [0, 0o077])
def test_the_mode_is_0660_whatever_the_umask(path: str, mask: int) -> None:
    with umask(mask), closing(BoundListener(path)):
        assert mode_of(path) == 0o660


def test_all_missing_directories_are_made_with_0750(tmp_path: Path) -> None:
    deepest = tmp_path / "a" / "b" / "c"
    with umask(0), closing(BoundListener(str(deepest / "proxy.sock"))):
        assert [mode_of(each) for each in (deepest, *deepest.parents[:2])] == [0o750] * 3


def test_directories_that_are_there_keep_their_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    with closing(BoundListener(str(tmp_path / "a" / "proxy.sock"))):
        assert mode_of(tmp_path) == 0o711


@pytest.mark.parametrize("between", ["", "sub"])
def test_a_directory_that_cannot_be_made(tmp_path: Path, between: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(StartError, match="Not a directory$"):
        BoundListener(str(tmp_path / "file" / between / "proxy.sock"))
    assert (tmp_path / "file").read_text() == "kept"


def test_the_longest_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    longest = "x" * MAX_PATH_BYTES
    with closing(BoundListener(longest)) as listener:
        assert_serves(listener.socket, longest)


@pytest.mark.parametrize("path", ["/" + "x" * 107, "/x" + "é" * 53])
def test_a_path_is_too_long_by_its_bytes(path: str) -> None:
    with pytest.raises(StartError, match=r"^socket path too long 108 \(max 107\)$"):
        BoundListener(path)


def test_a_path_that_gets_too_long_when_absolute_is_known_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    longest = "x" * MAX_PATH_BYTES
    with closing(BoundListener(longest)), pytest.raises(StartError, match="in use"):
        BoundListener(longest)
    bound(longest).close()
    with closing(BoundListener(longest)) as listener:
        assert_serves(listener.socket, longest)


def test_nothing_else_is_left_in_the_directory(path: str) -> None:
    with closing(BoundListener(path)):
        assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_whoever_sees_the_file_can_connect(path: str) -> None:
    over = threading.Event()

    def connect_as_soon_as_it_is_there() -> bool:
        while not over.is_set():
            with socket.socket(socket.AF_UNIX) as client, suppress(FileNotFoundError):
                client.connect(path)
                return True
        return False

    with ThreadPoolExecutor(1) as client:
        try:
            for _ in range(300):
                connected = client.submit(connect_as_soon_as_it_is_there)
                # Closed after that only: whoever connects to one that goes away may be refused.
                with closing(BoundListener(path)):
                    assert connected.result(timeout=PATIENCE_S)
        finally:
            over.set()


def test_a_change_of_directory_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listener = BoundListener("proxy.sock")
    monkeypatch.chdir("/")
    assert listener.gid == (tmp_path / "proxy.sock").stat().st_gid
    listener.close()
    assert not (tmp_path / "proxy.sock").exists()


# ---- what is there already


@pytest.mark.parametrize("remains", [False, True])
def test_of_daemons_that_start_at_once_one_wins(
    path: str, remains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "LOCK_PATIENCE_S", PATIENCE_S)

    def start() -> BoundListener | str:
        barrier.wait()
        try:
            return BoundListener(path)
        except StartError as error:
            return str(error)

    count = 8
    barrier = threading.Barrier(count)
    with ThreadPoolExecutor(count) as pool:
        for _ in range(20):
            if remains:
                bound(path).close()
            results = [each.result() for each in [pool.submit(start) for _ in range(count)]]
            winners = [each for each in results if isinstance(each, BoundListener)]
            losers = [each for each in results if isinstance(each, str)]
            assert len(winners) == 1, results
            assert all("in use by a running daemon" in each for each in losers), losers
            assert_serves(winners[0].socket, path)
            winners[0].close()


def test_a_directory_that_stays_locked(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "LOCK_PATIENCE_S", 0)
    directory = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        with pytest.raises(StartError, match=f"has locked the directory of {path}"):
            BoundListener(path)
    finally:
        os.close(directory)
    BoundListener(path).close()


def test_a_live_socket_is_refused_and_works_on(path: str) -> None:
    with bound(path) as other:
        other.listen()
        with pytest.raises(StartError, match=f"^{path} is in use by a running daemon"):
            BoundListener(path)
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
            BoundListener(path)
        assert os.path.exists(path)


def test_a_live_socket_of_another_kind_is_refused(path: str) -> None:
    with bound(path, socket.SOCK_DGRAM), pytest.raises(StartError, match="in use"):
        BoundListener(path)
    assert os.path.exists(path)


def test_a_plain_file_is_refused_and_left_alone(path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(StartError, match=f"^{path} exists and is no socket"):
        BoundListener(path)
    assert Path(path).read_text() == "precious"


def test_a_directory_is_refused(path: str) -> None:
    os.mkdir(path)
    with pytest.raises(StartError, match="exists and is no socket"):
        BoundListener(path)
    assert os.path.isdir(path)


def test_a_symbolic_link_is_refused_even_to_a_dead_socket(path: str, tmp_path: Path) -> None:
    target = str(tmp_path / "target")
    bound(target).close()
    os.symlink(target, path)
    with pytest.raises(StartError, match="exists and is no socket"):
        BoundListener(path)
    assert os.path.islink(path)
    assert os.path.exists(target)


def test_a_dead_socket_is_replaced(path: str) -> None:
    bound(path).close()
    with closing(BoundListener(path)) as listener:
        assert_serves(listener.socket, path)


# ---- the end


def test_closing_twice_is_closing_once(path: str) -> None:
    listener = BoundListener(path)
    listener.close()
    with closing(BoundListener(path)) as second:
        listener.close()
        assert_serves(second.socket, path)


def test_its_file_is_gone_at_close(path: str) -> None:
    BoundListener(path).close()
    assert not os.path.lexists(path)


def test_a_file_that_is_gone_already_is_no_error(path: str) -> None:
    listener = BoundListener(path)
    os.unlink(path)
    listener.close()


def test_a_socket_that_took_its_place_works_on(path: str) -> None:
    first = BoundListener(path)
    os.unlink(path)
    with closing(BoundListener(path)) as second:
        first.close()
        assert_serves(second.socket, path)


def test_a_file_that_took_its_place_is_left_alone(path: str) -> None:
    listener = BoundListener(path)
    os.unlink(path)
    Path(path).write_text("precious")
    listener.close()
    assert Path(path).read_text() == "precious"
