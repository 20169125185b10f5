"""Callbacks of a client and a shim that raise: the error passes, and nothing else is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccproxy_lib.client import Client, Shim
from ccproxy_lib.wire import frames
from ccproxy_lib.wire.frames import Command, Notification, Stream, Type
from tests.client.scripted import Peer, proxy


def test_a_sink_that_raises_gets_the_rest_and_the_status_comes(tmp_path: Path) -> None:
    taken: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.command(Command.CONNECT_SHIM)
        peer.answer(Command.CONNECT_SHIM)
        assert peer.command(Command.SIGNAL)
        pieces = [frames.encode(Type.STREAM, Stream.STDOUT, piece) for piece in (b"1", b"2", b"3")]
        end = frames.encode(Type.NOTIFICATION, Notification.PROCESS_EXITED, b"\x07")
        peer.socket.sendall(frames.encode(Type.RESPONSE, Command.SIGNAL) + b"".join(pieces) + end)
        while peer.frame():
            pass

    def sink(stream: int, data: bytes) -> None:
        taken.append(data)
        if data == b"1":
            raise LookupError("no place")

    with proxy(tmp_path, script) as path, Shim(path, "t", sink=sink, reconnect_s=0) as shim:
        with pytest.raises(LookupError, match="^no place$"):
            shim.signal(1)
        assert shim.wait() == 7
    assert taken == [b"1", b"2", b"3"]


def test_what_is_raised_when_an_answer_comes_leaves_other_answers_alone(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.command(Command.CONNECT_SHIM)
        peer.answer(Command.CONNECT_SHIM)
        assert peer.command(Command.SIGNAL)
        assert peer.command(Command.SIGNAL)
        refusal = frames.encode(Type.RESPONSE, Command.SIGNAL, b'{"msg":"no"}', error=True)
        peer.socket.sendall(refusal + frames.encode(Type.RESPONSE, Command.SIGNAL))
        peer.exited(0)
        while peer.frame():
            pass

    def refused(text: str) -> None:
        raise LookupError(text)

    with proxy(tmp_path, script) as path, Shim(path, "t", reconnect_s=0) as shim:
        shim.post_signal(1, refused)
        with pytest.raises(LookupError, match="^no$"):
            shim.signal(2)
        assert shim.wait() == 0


def test_a_watcher_that_raises_ends_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[BaseException | None] = []
    monkeypatch.setattr("threading.excepthook", lambda args: raised.append(args.exc_value))

    def script(peer: Peer) -> None:
        peer.command(Command.SUBSCRIBE)
        peer.answer(Command.SUBSCRIBE)
        peer.event(event="vm-registered", time=1.0, vm="a")
        peer.command(Command.HYPER)
        peer.answer(Command.HYPER)

    def callback(event: object) -> None:
        raise LookupError("enough")

    with proxy(tmp_path, script) as path, Client(path) as client:
        client.watch(callback).join()
        client.ping()
    assert [str(error) for error in raised] == ["enough"]
