"""Who may connect and say what, and how much: each limit on both of its sides."""

from __future__ import annotations

import os
import tempfile

import pytest

from ccproxy_lib.wire import frames
from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command, Stream, Type
from tests.e2e.harness import Refused, as_somebody, wait_until
from tests.e2e.steps import accept_soon, hung_up

pytestmark = pytest.mark.lasting


# ---- rights


ATTACH = frames.encode(Type.COMMAND, Command.ATTACH_VM, b'{"containerId":"nobody"}')


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_only_root_the_own_user_and_the_sockets_group_get_in(start_daemon):
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        daemon = start_daemon(path=os.path.join(directory, "proxy.sock"))
        os.chown(daemon.path, -1, 4242)
        os.chmod(daemon.path, 0o666)  # what the file's mode would keep out must get as far as us
        answer = b"unknown containerID"
        assert answer in as_somebody(daemon.path, ATTACH, 0, [])
        assert answer in as_somebody(daemon.path, ATTACH, 4242, [])
        assert answer in as_somebody(daemon.path, ATTACH, 5555, [4242])
        assert as_somebody(daemon.path, ATTACH, 5555, []) == b""
        assert "uid=5555" in daemon.wait_for_log("client refused")
        daemon.stop()


# ---- limits, on both sides


def test_payload_limit(start_daemon):
    daemon = start_daemon("-max-payload", "1000")
    with daemon.client() as client:
        with pytest.raises(Refused, match="unknown containerID"):
            client.call(Command.ATTACH_VM, b'{"containerId":"x"}'.ljust(1000))
        with pytest.raises(Refused, match="payload of 1001 bytes is over the limit of 1000"):
            client.call(Command.ATTACH_VM, b'{"containerId":"x"}'.ljust(1001))
        assert hung_up(client)


def test_client_limit(start_daemon):
    daemon = start_daemon("-max-clients", "2")
    with daemon.client() as first, daemon.client() as second:
        for client in (first, second):
            with pytest.raises(Refused, match="unknown containerID"):
                client.attach("x")
        with daemon.client() as third:
            with pytest.raises(Refused, match="^2 clients are connected and no more are allowed"):
                third.attach("x")
            assert hung_up(third)
    wait_until(lambda: daemon.log.count("client gone") >= 4, "both are gone")
    with daemon.client() as again, pytest.raises(Refused, match="unknown containerID"):
        again.attach("x")


def test_vm_limit(pair, scripted):
    daemon, _, runtime = pair("-max-vms", "1")
    with pytest.raises(Refused, match="^1 VMs are registered and no more are allowed"):
        runtime.register(scripted(), "c2")
    runtime.unregister("c1")
    vm = scripted()
    accepting = accept_soon(vm)
    runtime.register(vm, "c2")
    accepting.join()


def test_token_limit(pair):
    _, _, runtime = pair("-max-tokens", "3")
    assert len(runtime.attach("c1", 3)) == 3
    text = "VM c1 has 3 tokens and may have 3, so 1 more are refused"
    with pytest.raises(Refused, match=f"^{text}"):
        runtime.attach("c1", 1)


def test_registering_with_too_many_tokens_registers_nothing(pair, scripted):
    _, _, runtime = pair("-max-tokens", "3")
    vm = scripted()
    with pytest.raises(Refused, match="^VM c2 may have 3 tokens, so 4 are refused"):
        runtime.register(vm, "c2", 4)
    accepting = accept_soon(vm)
    assert len(runtime.register(vm, "c2", 3)) == 3
    accepting.join()


def test_waiting_command_limit(pair):
    daemon, vm, runtime = pair("-max-commands", "2")
    clients = [daemon.client() for _ in range(4)]
    for client in clients:
        client.attach("c1")
    try:
        clients[0].hyper_command("ping")
        assert vm.command().code == Code.PING  # outstanding, so no longer waiting
        # Which of the other three is one too many is up to their order of arrival.
        for client in clients[1:]:
            client.hyper_command("ping")
        daemon.wait_for_log("command refused")
        for _ in range(2):
            vm.send(Code.ACK)
            vm.command()
        vm.send(Code.ACK)
        refused = 0
        for client in clients:
            try:
                assert client.answer() == b""
            except Refused as refusal:
                assert str(refusal).startswith("2 commands wait for the agent")
                refused += 1
        assert refused == 1
    finally:
        for client in clients:
            client.close()


def test_pending_answers_limit(start_daemon):
    daemon = start_daemon("-max-pending", "100K")
    with daemon.client() as deaf, daemon.client() as client:
        frame = frames.encode(Type.COMMAND, Command.ATTACH_VM, b'{"containerId":"nobody"}')
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(100_000):
                deaf.socket.sendall(frame * 10)
        daemon.wait_for_log("client does not read its answers")
        with pytest.raises(Refused, match="unknown containerID"):
            client.attach("nobody")


@pytest.mark.parametrize("sent", [b"\x00", b"\x00\x02\x03", b"\x00\x02\x03\0\0\0\0\x02\0\0\0\x20{"])
def test_time_limit_for_half_a_frame(start_daemon, sent):
    daemon = start_daemon("-frame-timeout", "0.2")
    with daemon.client() as slow, daemon.client() as idle:
        slow.socket.sendall(sent)
        assert hung_up(slow)
        assert "half a message" in daemon.log
        with pytest.raises(Refused, match="unknown containerID"):
            idle.attach("nobody")  # an idle client is no slow one


def test_json_depth_limit(start_daemon):
    daemon = start_daemon("-max-json-depth", "5")
    with daemon.client() as client:

        def nested(depth):
            arrays = "[" * (depth - 1) + "]" * (depth - 1)
            return b'{"containerId":"nobody","x":%s}' % arrays.encode()

        with pytest.raises(Refused, match="unknown containerID"):
            client.call(Command.ATTACH_VM, nested(5))
        with pytest.raises(Refused, match="^JSON nested deeper than 5 levels$"):
            client.call(Command.ATTACH_VM, nested(6))


def test_log_streams_of_a_shim_are_its_own(daemon, registered, vm_id):
    _, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        shim.send(Type.STREAM, Stream.LOG, b'{"source":"moon","level":"info","msg":"x"}')
        assert hung_up(shim)
    assert "unknown log source" in daemon.wait_for_log("invalid log entry")
