"""The connection of the client library, against a proxy that is scripted."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccproxy_lib.client import Client, ProxyError, ProxyLost, ProxyTimeout, connection, events
from ccproxy_lib.client.events import EventsDropped, ProxyGone, UnknownEvent, VmLost
from ccproxy_lib.errors import CCProxyError
from ccproxy_lib.wire import frames
from ccproxy_lib.wire.frames import Command, Notification, Type
from tests.client.scripted import PATIENCE_S, Peer, proxy

TOKEN = "A" * 43 + "="
# JSON, but nobody can read it.
DEEP = b"[" * 200_000 + b"]" * 200_000


def test_all_errors_are_one_class() -> None:
    assert issubclass(ProxyLost, ProxyError)
    assert issubclass(ProxyTimeout, ProxyError)
    assert issubclass(ProxyError, CCProxyError)


# ---- where it is


def test_nobody_is_there(tmp_path: Path) -> None:
    path = tmp_path / "none.sock"
    with pytest.raises(ProxyLost, match=f"^cannot connect to the proxy at {path}: No such file"):
        Client(str(path))


@pytest.mark.parametrize("address", ["", "unix://", "tcp://127.0.0.1:80"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ProxyError, match="is not the address of a Unix socket"):
        Client(address)


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[socket.socket]:
    """A listener whose queue is full."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(tmp_path / "crowded"))
        listener.listen(0)
        first.connect(str(tmp_path / "crowded"))
        yield listener


def test_a_queue_that_stays_full(crowded: socket.socket) -> None:
    with pytest.raises(ProxyTimeout, match=r"^the proxy took nothing within 0.01 s$"):
        Client(crowded.getsockname(), timeout_s=0.01)


def test_a_queue_that_is_full_for_a_while(
    crowded: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.time, "sleep", lambda seconds: crowded.accept()[0].close())
    Client(crowded.getsockname()).close()


def test_a_path_and_a_uri_lead_to_the_same_place(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        assert peer.frame() is None

    with proxy(tmp_path, script, script) as path:
        Client(path).close()
        Client(f"unix://{path}").close()


# ---- calls


def test_a_refusal_is_an_error_with_the_proxys_text(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        assert peer.command(Command.ATTACH_VM) == {"containerId": "x", "numIOStreams": 2}
        peer.refuse(Command.ATTACH_VM, "unknown containerID: x")
        peer.command(Command.ATTACH_VM)
        peer.answer(Command.ATTACH_VM, b'{"io":{"URL":"unix:///x","tokens":["a","b"]}}')

    with proxy(tmp_path, script) as path, Client(path) as client:
        with pytest.raises(ProxyError, match="^unknown containerID: x$"):
            client.attach_vm("x", 2)
        assert client.attach_vm("x", 2) == ["a", "b"]


def test_tokens_do_not_get_into_errors(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        assert peer.command(Command.HYPER)["tokens"] == [TOKEN]
        peer.refuse(Command.HYPER, f"timeout waiting for shim with token {TOKEN}")

    with proxy(tmp_path, script) as path, Client(path) as client:
        with pytest.raises(ProxyError, match=r"^timeout waiting for shim with token \*\*\*$"):
            client.hyper("newcontainer", {}, TOKEN)


def test_data_in_bytes_goes_as_it_is(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        assert peer.expect(Type.COMMAND, Command.HYPER) == b'{"hyperName":"x","data":{"a" : 1.0}}'
        peer.answer(Command.HYPER, b"\0\xff")

    with proxy(tmp_path, script) as path, Client(path) as client:
        assert client.hyper("x", b'{"a" : 1.0}') == b"\0\xff"


def test_a_late_answer_is_nobody_elses(tmp_path: Path) -> None:
    timed_out = threading.Event()

    def script(peer: Peer) -> None:
        peer.command(Command.HYPER)
        assert timed_out.wait(PATIENCE_S)
        peer.answer(Command.HYPER, b"late")
        peer.command(Command.HYPER)
        peer.answer(Command.HYPER, b"in time")

    with proxy(tmp_path, script) as path, Client(path) as client:
        with pytest.raises(ProxyTimeout, match=r"^the proxy did not answer within 0.01 s$"):
            client.hyper("ping", timeout_s=0.01)
        timed_out.set()
        assert client.hyper("ping") == b"in time"


def test_the_clients_own_deadline_is_for_all_calls(tmp_path: Path) -> None:
    done = threading.Event()
    with (
        proxy(tmp_path, lambda peer: done.wait(PATIENCE_S)) as path,
        Client(path, timeout_s=0.01) as client,
    ):
        for call in (client.ping, client.status, lambda: client.log_control("info")):
            with pytest.raises(ProxyTimeout):
                call()
        done.set()


def test_a_proxy_that_takes_nothing(tmp_path: Path) -> None:
    done = threading.Event()
    with (
        proxy(tmp_path, lambda peer: done.wait(PATIENCE_S)) as path,
        Client(path, timeout_s=0.1) as client,
    ):
        with pytest.raises(ProxyLost, match=r"^the proxy took nothing within 0.1 s$"):
            client.hyper("x", "y" * (1 << 20))  # half of it is sent, and spoils what comes behind
        with pytest.raises(ProxyLost):
            client.ping()
        done.set()


def test_calls_of_many_threads_get_their_own_answers(tmp_path: Path) -> None:
    calls = 200

    def script(peer: Peer) -> None:
        for _ in range(calls):
            name = peer.command(Command.HYPER)["hyperName"]
            peer.answer(Command.HYPER, name.encode())
            peer.event(event="vm-lost", time=1.5, vm=name, reason="r")

    def call(start: int) -> None:
        for number in range(start, calls, 4):
            if client.hyper(str(number)) != str(number).encode():
                wrong.append(number)

    wrong: list[int] = []
    with proxy(tmp_path, script) as path, Client(path) as client:
        threads = [threading.Thread(target=call, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        deadline = client.deadline(PATIENCE_S)
        seen = {client.next_event(deadline) for _ in range(calls)}
    assert not wrong
    assert seen == {VmLost(1.5, str(number), "r") for number in range(calls)}


# ---- the end of a connection


@pytest.mark.parametrize(
    ("garbage", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the proxy sent what is no frame"),
        (frames.encode(Type.RESPONSE, Command.STATUS), "an answer to no command"),
        (frames.header(Type.RESPONSE, Command.HYPER, 1 << 30), "payload of 1073741824 bytes"),
        (frames.encode(Type.NOTIFICATION, Notification.EVENT, b"[]"), "what is no event"),
        (frames.encode(Type.NOTIFICATION, Notification.EVENT, DEEP), "what is no event"),
        (b"", "the proxy has closed the connection"),
        (frames.encode(Type.RESPONSE, Command.HYPER)[:-3], "the proxy has closed the connection"),
    ],
)
def test_garbage_and_an_early_end(tmp_path: Path, garbage: bytes, text: str) -> None:
    def script(peer: Peer) -> None:
        peer.command(Command.HYPER)
        peer.socket.sendall(garbage)

    with proxy(tmp_path, script) as path, Client(path) as client:
        for _ in range(2):
            with pytest.raises(ProxyLost, match=text):
                client.ping()


@pytest.mark.parametrize("payload", [b"", b"[]", b'{"io":1}', b"{", DEEP])
def test_an_answer_without_tokens(tmp_path: Path, payload: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.command(Command.ATTACH_VM)
        peer.answer(Command.ATTACH_VM, payload)

    with proxy(tmp_path, script) as path, Client(path) as client:
        with pytest.raises(ProxyError, match="^the proxy sent an answer without tokens$"):
            client.attach_vm("x")


@pytest.mark.parametrize("tokens", [[], 1, ["a", "b"], [1], "a", {"a": "b", "c": "d"}, "ab"])
def test_other_tokens_than_asked_for(tmp_path: Path, tokens: object) -> None:
    def script(peer: Peer) -> None:
        peer.command(Command.ATTACH_VM)
        peer.answer(Command.ATTACH_VM, json.dumps({"io": {"tokens": tokens}}).encode())

    with proxy(tmp_path, script) as path, Client(path) as client:
        with pytest.raises(ProxyError, match="tokens"):
            client.attach_vm("x", 1)


def test_a_status_that_is_none(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.command(Command.STATUS)
        peer.answer(Command.STATUS, DEEP)

    with proxy(tmp_path, script) as path, Client(path) as client:
        with pytest.raises(ProxyError, match="^the proxy sent a status that is no JSON object$"):
            client.status()


@pytest.mark.parametrize("payload", [b"?", DEEP])
def test_a_refusal_without_a_reason(tmp_path: Path, payload: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.command(Command.HYPER)
        peer.socket.sendall(frames.encode(Type.RESPONSE, Command.HYPER, payload, error=True))

    with proxy(tmp_path, script) as path, Client(path) as client:
        with pytest.raises(ProxyError, match="^the proxy refuses without a reason$"):
            client.ping()


def test_closing_wakes_who_waits(tmp_path: Path) -> None:
    asked = threading.Event()
    raised: list[ProxyError] = []

    def script(peer: Peer) -> None:
        peer.command(Command.HYPER)
        asked.set()
        assert peer.frame() is None

    def call() -> None:
        try:
            client.ping()
        except ProxyError as error:
            raised.append(error)

    with proxy(tmp_path, script) as path:
        client = Client(path)
        thread = threading.Thread(target=call)
        thread.start()
        assert asked.wait(PATIENCE_S)
        client.close()
        thread.join()
    assert [str(error) for error in raised] == ["the connection is closed"]


def test_an_answer_of_many_mebibytes(tmp_path: Path) -> None:
    big = b'{"vms":"%s"}' % (b"x" * (5 << 20))

    def script(peer: Peer) -> None:
        peer.command(Command.STATUS)
        peer.answer(Command.STATUS, big)

    with proxy(tmp_path, script) as path, Client(path) as client:
        assert len(client.status()["vms"]) == 5 << 20


# ---- events


def subscribed(peer: Peer) -> None:
    peer.command(Command.SUBSCRIBE)
    peer.answer(Command.SUBSCRIBE)


def test_events_come_as_objects(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        assert peer.command(Command.SUBSCRIBE) == {"containerId": "v"}
        peer.event(event="vm-registered", time=1, vm="v")  # before the answer: kept
        peer.answer(Command.SUBSCRIBE)
        peer.event(event="process-ended", time=2, vm="v", container="c", stdio=3, status=4)
        peer.event(event="shim-lost", time=2, vm="v", stdio=5, news="?")
        peer.event(event="tomorrow", time=3, vm="v", more=[1])
        peer.event(event="dropped", time=4, count=7)

    with proxy(tmp_path, script) as path, Client(path) as client:
        stream = client.events("v")
        assert list(itertools.islice(stream, 5)) == [
            events.VmRegistered(1, "v"),
            events.ProcessEnded(2, "v", "c", 3, 4),
            events.ShimLost(2, "v", "", 5),
            UnknownEvent(
                3, "v", "tomorrow", {"event": "tomorrow", "time": 3, "vm": "v", "more": [1]}
            ),
            EventsDropped(4, "", 7),
        ]
        with pytest.raises(ProxyLost):
            next(stream)
        client.close()
        assert list(stream) == []


def test_nothing_happens(tmp_path: Path) -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        subscribed(peer)
        assert go_on.wait(PATIENCE_S)
        peer.event(event="vm-registered", time=1, vm="v")

    with proxy(tmp_path, script) as path, Client(path) as client:
        stream = client.events(timeout_s=0.01)
        with pytest.raises(ProxyTimeout):
            next(stream)
        go_on.set()
        assert client.next_event(client.deadline(PATIENCE_S)) == events.VmRegistered(1, "v")


def test_events_that_nobody_takes_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccproxy_lib.client.client.MAX_EVENTS", 3)
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        subscribed(peer)
        for number in range(5):
            peer.event(event="vm-registered", time=number, vm="v")
        peer.command(Command.HYPER)
        peer.answer(Command.HYPER)
        assert go_on.wait(PATIENCE_S)
        peer.event(event="vm-registered", time=9, vm="v")

    with proxy(tmp_path, script) as path, Client(path) as client:
        stream = client.events()
        client.ping()
        seen = list(itertools.islice(stream, 4))
        go_on.set()
        seen.append(next(stream))
    assert [event.time for event in seen[:3]] == [0, 1, 2]
    assert isinstance(seen[3], EventsDropped)
    assert (seen[3].count, seen[4].time) == (2, 9)


def test_a_callback_gets_events_until_the_proxy_goes(tmp_path: Path) -> None:
    seen: list[events.Event] = []

    def script(peer: Peer) -> None:
        subscribed(peer)
        peer.event(event="agent-event", time=1, vm="v", data="x")
        peer.command(Command.HYPER)
        peer.answer(Command.HYPER, b"pong")

    with proxy(tmp_path, script) as path, Client(path) as client:
        watcher = client.watch(seen.append)
        assert client.hyper("ping") == b"pong"
        watcher.join(PATIENCE_S)
    assert seen[0] == events.AgentEvent(1, "v", "x")
    assert isinstance(seen[1], ProxyGone)
    assert seen[1].reason == "the proxy has closed the connection"
    assert len(seen) == 2


def test_the_package_has_what_it_says() -> None:
    from ccproxy_lib import client

    for name in client.__all__:
        assert getattr(client, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        client.nope  # noqa: B018 (asking is all)
