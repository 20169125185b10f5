"""A connection that is closed while other threads are at work on it, or in a child process."""

from __future__ import annotations

import os
import socket
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccproxy_lib.client import Client, ProxyLost, Shim
from ccproxy_lib.wire.frames import Command
from tests.client.scripted import PATIENCE_S, Peer, proxy

ROUNDS = 100
TOKEN = "A" * 43 + "="


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """Keep who is woken off the CPU for a moment."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_cpu")
def test_a_number_that_is_used_again_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Poll looks its numbers up again, and would go on with the next descriptor."""

    def script(peer: Peer) -> None:
        peer.command(Command.HYPER)
        asked.set()
        assert peer.frame() is None

    def call() -> None:
        with pytest.raises(ProxyLost, match="^the connection is closed$"):
            client.ping()

    asked = threading.Event()
    with proxy(tmp_path, *[script] * ROUNDS) as path:
        for _ in range(ROUNDS):
            client = Client(path)
            waiting = threading.Thread(target=call, daemon=True)
            waiting.start()
            assert asked.wait(PATIENCE_S)
            asked.clear()
            client.close()
            with socket.socket() as one, socket.socket() as other:
                one.bind(("127.0.0.1", 0))
                other.bind(("127.0.0.1", 0))
                one.listen()
                other.listen()
                waiting.join(PATIENCE_S)
            assert not waiting.is_alive()


def test_a_child_that_closes_it_leaves_it_to_the_parent(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.command(Command.HYPER)
        peer.answer(Command.HYPER)

    with proxy(tmp_path, script) as path, Client(path) as client:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()  # which newer Pythons warn of where there are threads
        if not child:
            client.close()
            os._exit(0)
        os.waitpid(child, 0)
        client.ping()


def test_a_shim_lets_go_of_a_connection_of_which_one_way_is_shut(tmp_path: Path) -> None:
    """Until then the proxy takes the token for claimed."""

    def first(peer: Peer) -> None:
        peer.accept_shim()
        peer.socket.shutdown(socket.SHUT_WR)
        assert peer.frame() is None

    def second(peer: Peer) -> None:
        peer.accept_shim()
        peer.exited(3)
        assert peer.frame()

    with proxy(tmp_path, first, second) as path, Shim(path, TOKEN) as shim:
        assert shim.wait() == 3
