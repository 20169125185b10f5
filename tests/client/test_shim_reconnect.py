"""A shim of the client library whose connection is lost."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ccproxy_lib.client import ProxyLost, ProxyTimeout, Shim, connection, deadline
from ccproxy_lib.client import shim as client_shim
from ccproxy_lib.client.connection import Attend
from ccproxy_lib.wire import frames
from ccproxy_lib.wire.frames import Command, Stream, Type
from tests.client.scripted import MIB, OUTPUT, PATIENCE_S, TOKEN, Peer, finish, proxy


def test_it_comes_back_with_its_token(tmp_path: Path) -> None:
    def first(peer: Peer) -> None:
        peer.accept_shim()
        peer.command(Command.SIGNAL)
        peer.answer(Command.SIGNAL)
        peer.output(b"one,")

    def busy(peer: Peer) -> None:
        peer.command(Command.CONNECT_SHIM)
        peer.refuse(Command.CONNECT_SHIM, f"token already claimed: {TOKEN}")

    def second(peer: Peer) -> None:
        assert peer.accept_shim() == TOKEN
        # The size that is shown now is not the process's business alone.
        assert peer.command(Command.SIGNAL) == {"signalNumber": 28, "columns": 80, "rows": 24}
        peer.answer(Command.SIGNAL)
        peer.output(b"two")
        finish(peer, 5)

    with proxy(tmp_path, first, busy, second) as path, Shim(path, TOKEN) as shim:
        shim.resize(80, 24)
        assert shim.stdout.read() == b"one,two"
        assert shim.wait() == 5


def test_what_has_come_of_a_broken_frame_counts(tmp_path: Path) -> None:
    """The proxy goes on behind what its socket has taken, also in the middle of a frame."""

    def first(peer: Peer) -> None:
        peer.accept_shim()
        peer.socket.sendall(frames.encode(Type.STREAM, Stream.STDOUT, b"0123456789")[:-4])

    def second(peer: Peer) -> None:
        peer.accept_shim()
        peer.output(b"6789")
        finish(peer)

    with proxy(tmp_path, first, second) as path, Shim(path, TOKEN) as shim:
        assert shim.stdout.read() == b"0123456789"


def test_what_the_proxy_said_before_it_went_is_read_when_sending_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LAST_WORDS_S", PATIENCE_S)

    def first(peer: Peer) -> None:
        peer.accept_shim()
        assert connected.wait(PATIENCE_S)
        peer.output(OUTPUT[:100_000])

    def second(peer: Peer) -> None:
        peer.accept_shim()
        assert peer.expect(Type.STREAM, Stream.STDIN) == b"x"
        peer.output(OUTPUT[100_000:200_000])
        finish(peer)

    connected = threading.Event()
    with proxy(tmp_path, first, second) as path, Shim(path, TOKEN) as shim:
        connected.set()
        poll = select.poll()
        poll.register(shim, select.POLLHUP)
        assert poll.poll(PATIENCE_S * 1000)
        shim.stdin.write(b"x")
        assert shim.stdout.read() == OUTPUT[:200_000]


def test_stdin_that_was_not_sent_as_a_whole_is_sent_again_as_a_whole(tmp_path: Path) -> None:
    taken = b""

    def first(peer: Peer) -> None:
        nonlocal taken
        peer.accept_shim()
        while len(taken) < MIB:
            taken += peer.expect(Type.STREAM, Stream.STDIN)
        peer.socket.settimeout(None)
        # Leave nothing of a whole frame unread that the shim must take for delivered.
        taken += b"".join(frame.payload for frame in whole_frames(peer))

    def second(peer: Peer) -> None:
        nonlocal taken
        peer.accept_shim()
        while data := peer.expect(Type.STREAM, Stream.STDIN):
            taken += data
        finish(peer)

    with proxy(tmp_path, first, second) as path, Shim(path, TOKEN) as shim:
        shim.stdin.write(OUTPUT)
        shim.stdin.close()
        shim.wait()
    assert taken == OUTPUT


def whole_frames(peer: Peer):
    """Shut the way in, and read what came before that."""
    peer.socket.shutdown(socket.SHUT_RD)
    while (frame := peer.frame()) is not None:
        yield frame


def test_a_signal_without_an_answer_is_not_sent_twice(tmp_path: Path) -> None:
    def first(peer: Peer) -> None:
        peer.accept_shim()
        peer.command(Command.SIGNAL)

    def second(peer: Peer) -> None:
        peer.accept_shim()
        finish(peer, 1)

    with proxy(tmp_path, first, second) as path, Shim(path, TOKEN) as shim:
        with pytest.raises(ProxyLost, match="; signal 10 may have been delivered or not$"):
            shim.signal(signal.SIGUSR1)
        assert shim.wait() == 1


def test_a_session_that_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    def first(peer: Peer) -> None:
        peer.accept_shim()

    def restarted(peer: Peer) -> None:
        peer.command(Command.CONNECT_SHIM)
        peer.refuse(Command.CONNECT_SHIM, f"unknown token: {TOKEN}")

    lost = r"^the proxy has closed the connection; the session is gone: unknown token: \*\*\*$"
    with proxy(tmp_path, first, restarted) as path, Shim(path, TOKEN) as shim:
        with pytest.raises(ProxyLost, match=lost):
            shim.wait()
        with pytest.raises(ProxyLost):
            shim.stdin.write(b"x")


@pytest.mark.parametrize(
    ("reconnect_s", "text"),
    [(0, "^the proxy has closed the connection$"), (0.01, "; no way back within 0.01 s: cannot")],
)
def test_patience_comes_to_an_end(tmp_path: Path, reconnect_s: float, text: str) -> None:
    def only(peer: Peer) -> None:
        peer.accept_shim()
        os.unlink(path)

    with proxy(tmp_path, only) as path, Shim(path, TOKEN, reconnect_s=reconnect_s) as shim:
        with pytest.raises(ProxyLost, match=text):
            shim.wait()


def between(pause: Callable[[float], object]) -> Attend:
    """Wait for the proxy as usual, and with ``pause`` between attempts to connect."""

    def attend(descriptor: int | None, seconds: float) -> None:
        if descriptor is None:
            pause(seconds)
        else:
            select.select([descriptor], [], [], seconds)

    return attend


@pytest.fixture
def minutes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the pauses were that go by at once, each as if it were a minute."""
    paused: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 60 * len(paused))
    monkeypatch.setattr(deadline, "time", clock)
    monkeypatch.setattr(client_shim, "SETTLED_S", 1e6)
    return paused


def test_connections_that_are_lost_at_once_are_not_sought_in_a_hurry(
    tmp_path: Path, minutes: list[float]
) -> None:
    def lost(peer: Peer) -> None:
        peer.accept_shim()

    def last(peer: Peer) -> None:
        peer.accept_shim()
        finish(peer, 5)

    # More than functions can call each other.
    with proxy(tmp_path, *[lost] * 400, last) as path:
        attend = between(minutes.append)
        with Shim(path, TOKEN, timeout_s=None, reconnect_s=1e6, attend=attend) as shim:
            shim.post_size(80, 24, lambda text: None)
            assert shim.wait() == 5
    assert 398 <= len(minutes) <= 400


def test_connections_that_are_lost_at_once_come_to_an_end(
    tmp_path: Path, minutes: list[float]
) -> None:
    def lost(peer: Peer) -> None:
        peer.accept_shim()

    def tell(text: str) -> None:
        """Let a minute pass between the connection and its loss, when no attempt needs it."""
        if text == "connected again":
            minutes.append(60.0)

    pauses: list[float] = []
    attend = between(pauses.append)
    with proxy(tmp_path, lost, lost, lost) as path:
        with Shim(path, TOKEN, reconnect_s=100, attend=attend, tell=tell) as shim:
            text = "; no way back within 100 s: each connection is lost at once$"
            with pytest.raises(ProxyLost, match=text):
                shim.wait()
    assert pauses == [client_shim.RETRY_S]


def test_a_shim_that_is_closed_does_not_come_back(tmp_path: Path) -> None:
    pausing, go_on = threading.Event(), threading.Event()

    def only(peer: Peer) -> None:
        peer.accept_shim()
        os.unlink(path)

    def pause(seconds: float) -> None:
        pausing.set()
        assert go_on.wait(PATIENCE_S)

    def wait() -> None:
        with pytest.raises(ProxyLost, match="^the proxy has closed the connection$"):
            shim.wait()

    with proxy(tmp_path, only) as path:
        shim = Shim(path, TOKEN, attend=between(pause))
        other = threading.Thread(target=wait)
        other.start()
        assert pausing.wait(PATIENCE_S)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            shim.close()
            go_on.set()
            other.join()
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()


def test_a_deadline_also_holds_while_another_thread_connects_again(tmp_path: Path) -> None:
    pausing, go_on = threading.Event(), threading.Event()

    def only(peer: Peer) -> None:
        peer.accept_shim()
        os.unlink(path)

    def pause(seconds: float) -> None:
        pausing.set()
        assert go_on.wait(PATIENCE_S)

    def wait() -> None:
        with pytest.raises(ProxyLost):
            shim.wait()

    with proxy(tmp_path, only) as path, Shim(path, TOKEN, attend=between(pause)) as shim:
        other = threading.Thread(target=wait)
        other.start()
        assert pausing.wait(PATIENCE_S)
        with pytest.raises(ProxyTimeout, match=r"^no connection to the proxy within 0.01 s$"):
            shim.wait(timeout_s=0.01)
        shim.close()  # so that the other thread tries no more
        go_on.set()
        other.join()
