"""A shim of the client library: streams and signals."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from ccproxy_lib.client import ProxyError, ProxyLost, ProxyTimeout, Shim
from ccproxy_lib.wire.frames import Command, Stream, Type
from tests.client.scripted import MIB, OUTPUT, PATIENCE_S, TOKEN, Peer, finish, gone, proxy

# ---- streams


def test_streams_are_files(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        assert peer.accept_shim() == TOKEN
        assert peer.expect(Type.STREAM, Stream.STDIN) == b"one\n"
        assert peer.expect(Type.STREAM, Stream.STDIN) == b""
        peer.output(b"1\n2")
        peer.output(b"e", Stream.STDERR)
        peer.output(b"2\n")
        finish(peer, 7)

    with proxy(tmp_path, script) as path, Shim(path, TOKEN) as shim:
        shim.stdin.write(b"")  # would be the end
        shim.stdin.write(b"one\n")
        shim.stdin.close()
        with pytest.raises(ValueError, match="closed"):
            shim.stdin.write(b"more")
        assert list(shim.stdout) == [b"1\n", b"22\n"]
        assert shim.stderr.read() == b"e"
        assert shim.wait() == shim.exit_status == 7
        assert shim.stdout.read() == b""
        with pytest.raises(BrokenPipeError):
            shim.send_stdin(b"too late")


def test_communicate_takes_more_than_all_buffers(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.accept_shim()
        for start in range(0, len(OUTPUT), 65536):  # all of it, before any stdin is read
            peer.output(OUTPUT[start : start + 65536])
        got = b""
        while data := peer.expect(Type.STREAM, Stream.STDIN):
            got += data
        assert got == OUTPUT
        finish(peer, 3)

    with proxy(tmp_path, script) as path, Shim(path, TOKEN) as shim:
        assert shim.communicate(OUTPUT, PATIENCE_S) == (OUTPUT, b"", 3)


def test_a_stream_that_nobody_reads_holds_the_other_up(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.accept_shim()
        for start in range(0, len(OUTPUT), 65536):
            peer.output(OUTPUT[start : start + 65536], Stream.STDERR)
        peer.output(b"out")
        finish(peer)

    with proxy(tmp_path, script) as path, Shim(path, TOKEN) as shim:
        with pytest.raises(ProxyTimeout):
            shim.wait(timeout_s=0.2)
        assert shim._piles[Stream.STDERR].size_bytes < 2 * MIB
        reader = threading.Thread(target=lambda: seen.append(shim.stderr.read()))
        seen: list[bytes] = []
        reader.start()
        assert shim.stdout.read() == b"out"
        reader.join()
    assert seen == [OUTPUT]


def test_waiting_has_a_deadline(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.accept_shim()
        gone(peer)

    with proxy(tmp_path, script) as path, Shim(path, TOKEN) as shim:
        with pytest.raises(ProxyTimeout, match=r"within 0.01 s$"):
            shim.wait(timeout_s=0.01)


def test_a_wrong_token(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.command(Command.CONNECT_SHIM)
        peer.refuse(Command.CONNECT_SHIM, f"unknown token: {TOKEN}")

    with proxy(tmp_path, script) as path:
        with pytest.raises(ProxyError, match=r"^unknown token: \*\*\*$"):
            Shim(path, TOKEN)


# ---- signals


def test_signals_and_sizes(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.accept_shim()
        assert peer.command(Command.SIGNAL) == {"signalNumber": 15}
        peer.answer(Command.SIGNAL)
        assert peer.command(Command.SIGNAL) == {"signalNumber": 28, "columns": 80, "rows": 24}
        peer.output(OUTPUT[: 2 * MIB // 4])
        peer.refuse(Command.SIGNAL, f"timeout waiting for process with token {TOKEN}")
        gone(peer)

    with proxy(tmp_path, script) as path, Shim(path, TOKEN) as shim:
        shim.signal(signal.SIGTERM)
        with pytest.raises(ProxyError, match=r"^timeout waiting for process with token \*\*\*$"):
            shim.resize(80, 24)


def test_disconnecting_leaves_the_process_alone(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.accept_shim()
        peer.expect(Type.COMMAND, Command.DISCONNECT_SHIM)
        assert peer.frame() is None

    with proxy(tmp_path, script) as path, Shim(path, TOKEN) as shim:
        shim.disconnect()
        with pytest.raises(ProxyLost, match="the connection is closed"):
            shim.wait()


def test_a_shim_that_goes_early_says_nothing(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.accept_shim()
        assert peer.frame() is None  # neither DisconnectShim nor the end of stdin

    with proxy(tmp_path, script) as path:
        Shim(path, TOKEN).close()
