"""Protocol 2 byte for byte: frames in pieces, half-closed clients, and broken ones."""

from __future__ import annotations

import json
import socket

import pytest

from ccproxy_lib.wire import frames
from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command, Type
from tests.e2e.harness import Refused
from tests.e2e.steps import frame_bytes, hung_up, start


def test_a_client_that_sends_byte_by_byte(daemon, registered, vm_id):
    with daemon.client() as client:
        payload = json.dumps({"containerId": vm_id}).encode()
        for byte in frames.encode(Type.COMMAND, Command.ATTACH_VM, payload):
            client.socket.sendall(bytes([byte]))
        assert b'"tokens":null' in client.answer()


def test_a_longer_header_is_skipped(daemon, registered, vm_id):
    payload = json.dumps({"containerId": vm_id}).encode()
    frame = bytearray(frames.encode(Type.COMMAND, Command.ATTACH_VM))
    frame[2] = 5
    frame[8:12] = len(payload).to_bytes(4, "big")
    with daemon.client() as client:
        client.socket.sendall(bytes(frame) + b"8 extra!" + payload)
        assert b'"tokens":null' in client.answer()


def test_several_commands_in_one_write_are_answered_in_order(daemon, registered, vm_id):
    good = json.dumps({"containerId": vm_id}).encode()
    bad = json.dumps({"containerId": "nobody"}).encode()
    encoded = [frames.encode(Type.COMMAND, Command.ATTACH_VM, payload) for payload in (good, bad)]
    with daemon.client() as client:
        client.socket.sendall(b"".join(encoded * 3))
        for _ in range(3):
            client.answer()
            with pytest.raises(Refused, match="unknown containerID"):
                client.answer()


def test_a_half_closed_client_still_gets_its_answers(daemon, registered):
    vm, runtime = registered
    runtime.hyper_command("ping")
    runtime.socket.shutdown(socket.SHUT_WR)
    vm.ack(b"pong")
    assert runtime.answer() == b"pong"
    assert hung_up(runtime)


def test_a_half_closed_shim_still_gets_output_and_exit_status(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio, _ = start(vm, runtime, token=token)
        shim.socket.shutdown(socket.SHUT_WR)
        vm.output(stdio, b"still heard")
        vm.exit(stdio, 1)
        assert shim.collect() == (b"still heard", b"", 1)


def test_frames_sent_just_before_a_close_are_processed(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    shim = daemon.shim(token)
    start(vm, runtime, "box", token)
    shim.command(Command.SIGNAL, {"signalNumber": 9})
    shim.close()
    assert vm.ack() == (
        Code.KILL_CONTAINER,
        b'{"container":"box","signal":9,"allProcesses":false}',
    )


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (frame_bytes(version=3), "version"),
        (b"GET / HTTP/1.1\r\n\r\n", "version"),
        (b"G", "first byte"),
        (frame_bytes(words=0), "header of 0 words"),
        (frame_bytes(words=1), "header of 1 words"),
        (frame_bytes(words=2), "header of 2 words"),
        (frame_bytes(flags=7), "unknown frame of type 7"),
        (frame_bytes(flags=1), "unknown frame of type 1"),
        (frame_bytes(flags=3), "unknown frame of type 3"),
        (frame_bytes(flags=2, opcode=1), "unknown frame of type 2 with opcode 1"),
        (frame_bytes(flags=2, opcode=0), "stdin from a client that isn't a shim"),
        (frame_bytes(flags=2, opcode=3), "invalid log entry"),
        (frame_bytes(flags=2, opcode=0, length=0xFFFFFFFF), "payload of 4294967295 bytes"),
    ],
)
def test_broken_frames_end_their_connection_alone(daemon, registered, sent, reason):
    vm, runtime = registered
    with daemon.client() as client:
        client.socket.sendall(sent)
        assert hung_up(client)
    assert reason in daemon.wait_for_log(reason)
    runtime.hyper_command("ping")
    vm.ack()
    assert runtime.answer() == b""


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (frame_bytes(opcode=99), "unknown command opcode 99"),
        (
            frame_bytes(opcode=3, length=0xFFFFFFFF),
            "payload of 4294967295 bytes is over the limit of 1048576",
        ),
    ],
)
def test_broken_commands_are_answered_first(daemon, sent, text):
    with daemon.client() as client:
        client.socket.sendall(sent)
        with pytest.raises(Refused, match=f"^{text}$"):
            client.answer()
        assert hung_up(client)


@pytest.mark.parametrize("payload", [b"{", b"[]", b'{"containerId":7}', b"\xff", b"{}", b'"x"'])
def test_bad_json_is_answered_and_the_connection_lives(daemon, payload):
    with daemon.client() as client:
        for _ in range(2):
            with pytest.raises(Refused):
                client.call(Command.ATTACH_VM, payload)
