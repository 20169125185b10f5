"""A shim of the client library that carries streams between descriptors."""

from __future__ import annotations

import os
import select
import signal
import threading
from pathlib import Path

import pytest

from ccproxy_lib.client import Shim
from ccproxy_lib.client.carrier import Carrier
from ccproxy_lib.client.signals import Signals
from ccproxy_lib.wire.frames import Command, Stream
from tests.client.scripted import OUTPUT, TOKEN, Peer, finish, gone, proxy


def test_output_is_read_while_the_proxy_takes_no_stdin(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def script(peer: Peer) -> None:
        peer.accept_shim()
        for start in range(0, len(OUTPUT), 65536):
            peer.output(OUTPUT[start : start + 65536])
        peer.exited(3)
        gone(peer)

    (tmp_path / "stdin").write_bytes(OUTPUT)
    with proxy(tmp_path, script) as path, open(tmp_path / "stdin", "rb") as stdin:
        with Signals(()) as signals:
            carrier = Carrier(stdin.fileno())
            with Shim(path, TOKEN, sink=carrier.keep) as shim:
                assert carrier.run(shim, signals) == 3
    out, err = capfdbinary.readouterr()
    assert (out == OUTPUT, err) == (True, b"")


def test_a_signal_gets_through_while_nobody_takes_the_output(tmp_path: Path) -> None:
    """Also while stdin waits, and the answer to the signal comes behind all of the output."""

    def script(peer: Peer) -> None:
        peer.accept_shim()
        peer.output(OUTPUT[: 256 * 1024])
        os.kill(os.getpid(), signal.SIGUSR1)
        assert peer.command(Command.SIGNAL) == {"signalNumber": int(signal.SIGUSR1)}
        peer.refuse(Command.SIGNAL, "no")
        drain.start()
        finish(peer, 4)

    def read_all() -> None:
        with open(reader, "rb") as file:
            got.append(file.read())

    got: list[bytes] = []
    refused: list[str] = []
    reader, writer = os.pipe()
    drain = threading.Thread(target=read_all)
    with proxy(tmp_path, script) as path, Signals({signal.SIGUSR1}) as signals:
        carrier = Carrier(None)
        carrier.targets[Stream.STDOUT] = writer
        carrier.on_refusal = refused.append
        with Shim(path, TOKEN, sink=carrier.keep) as shim:
            assert carrier.run(shim, signals) == 4
    os.close(writer)
    drain.join()
    assert (got, refused) == ([OUTPUT[: 256 * 1024]], ["no"])


@pytest.mark.parametrize("lossy", [True, False])
def test_output_that_nobody_will_ever_read(tmp_path: Path, lossy: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept_shim()
        peer.output(b"x")
        if lossy:  # otherwise nobody stays to hear it
            peer.exited(4)
        gone(peer)

    reader, writer = os.pipe()
    os.close(reader)
    with proxy(tmp_path, script) as path, Signals(()) as signals:
        carrier = Carrier(None, lossy)
        carrier.targets[Stream.STDOUT] = writer
        with Shim(path, TOKEN, sink=carrier.keep) as shim:
            if lossy:
                assert carrier.run(shim, signals) == 4
            else:
                with pytest.raises(BrokenPipeError):
                    carrier.run(shim, signals)
    os.close(writer)


def test_a_signal_handler_that_waits_is_told_so(tmp_path: Path) -> None:
    """It would wait for what its own thread was just reading."""

    def script(peer: Peer) -> None:
        peer.accept_shim()
        gone(peer)

    def attend(descriptor: int | None, seconds: float) -> None:
        """Have the signal come while the shim's own thread reads, and at no other time."""
        if connected.is_set():
            signal.raise_signal(signal.SIGUSR1)
        select.select([descriptor], [], [], seconds)

    def handle(*_: object) -> None:
        shim.signal(signal.SIGTERM, timeout_s=0.01)

    connected = threading.Event()
    with proxy(tmp_path, script) as path, Shim(path, TOKEN, attend=attend) as shim:
        connected.set()
        previous = signal.signal(signal.SIGUSR1, handle)
        try:
            with pytest.raises(RuntimeError, match="a signal handler or greenlet must not wait"):
                shim.wait()
        finally:
            signal.signal(signal.SIGUSR1, previous)
