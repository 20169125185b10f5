"""Protocol 1: runtimes and shims of the 2.x generation on the same socket."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import struct
import threading

import pytest

from ccproxy_lib.wire import tty
from ccproxy_lib.wire.ctl import Code
from tests.e2e.client1 import Client1
from tests.e2e.harness import Refused, container, process, wait_until
from tests.e2e.steps import accept_soon, start

MIB = 1 << 20


@pytest.fixture
def greeted(daemon, scripted, vm_id):
    """A scripted VM and the protocol 1 client that has said hello."""
    vm = scripted()
    accepting = accept_soon(vm)
    with Client1(daemon.path) as client:
        assert client.hello(vm, vm_id) == {"version": 1}
        accepting.join()
        yield vm, client
    vm.hang_up()


@pytest.fixture
def client(daemon):
    with Client1(daemon.path) as client:
        yield client


def started(io_base: int, *args: str, streams: int = 2, **more) -> dict:
    """A process with the client's own stream numbers."""
    numbers = {"stdio": io_base} if streams == 1 else {"stdio": io_base, "stderr": io_base + 1}
    return process(*args, **numbers, **more)


# ---- requests and responses


def test_responses_byte_for_byte(greeted, daemon, vm_id):
    vm, _ = greeted
    with Client1(daemon.path) as other:
        other.send("attach", {"containerId": vm_id})
        assert other.response() == b'{"success":true,"data":{"version":1}}'
        other.send("hyper", {"hyperName": "ping"})
        assert vm.ack(b"not for the client").code == Code.PING
        assert other.response() == b'{"success":true}'
        other.send("bye", {"containerId": "nobody"})
        assert other.response() == b'{"success":false,"error":"unknown containerID: nobody"}'


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"{}", "no 'id' field in request"),
        (b'{"data":{}}', "no 'id' field in request"),
        (b'{"id":"greet"}', "no payload named 'greet'"),
        (b'{"id":"hello","data":{}}', "'containerId' is missing"),
        (b'{"id":"hello","data":[]}', "'data' must be a JSON object"),
        (b'{"id":"attach","data":{"containerId":"nobody"}}', "unknown containerID: nobody"),
        (b'{"id":"bye","data":{"containerId":"nobody"}}', "unknown containerID: nobody"),
        (b'{"id":"hyper","data":{"hyperName":"ping"}}', "client not attached to a vm"),
        (b'{"id":"allocateIO","data":{"nStreams":1}}', "client not attached to a vm"),
    ],
)
def test_errors_are_answered_and_the_connection_lives(client, payload, text):
    for _ in range(2):
        client.send_raw(payload)
        with pytest.raises(Refused, match=f"^{re.escape(text)}$"):
            client.answer()


@pytest.mark.parametrize("streams", [0, 3, -1, "2", None, 1.5, True])
def test_bad_stream_counts_are_errors_without_a_descriptor(greeted, streams):
    vm, client = greeted
    with pytest.raises(Refused, match="^allocateIO needs 'nStreams' to be 1 or 2, got "):
        client.call("allocateIO", {"nStreams": streams})
    client.send("hyper", {"hyperName": "ping"})
    vm.ack()
    assert client.answer() is None  # and no descriptor's byte before it


def test_hello_twice(greeted, daemon, vm_id):
    vm, _ = greeted
    with Client1(daemon.path) as other:
        with pytest.raises(Refused, match=f"^{vm_id}: container already registered$"):
            other.hello(vm, vm_id)


def test_a_failed_hello_leaves_nothing_registered(client, scripted, vm_id):
    vm = scripted()
    members = {"containerId": vm_id, "ctlSerial": vm.ctl_path, "ioSerial": "/no/where"}
    with pytest.raises(Refused, match="^cannot connect to the I/O channel /no/where: "):
        client.call("hello", members)
    with pytest.raises(Refused, match=f"^unknown containerID: {vm_id}$"):
        client.call("attach", {"containerId": vm_id})
    another = scripted()
    accepting = accept_soon(another)
    client.hello(another, vm_id)
    accepting.join()
    client.call("bye", {"containerId": vm_id})


def test_bye_closes_the_vm_and_frees_its_id(greeted, daemon, vm_id, scripted):
    vm, client = greeted
    assert client.call("bye", {"containerId": vm_id}) is None
    assert vm.ctl.recv(1) == b""
    with pytest.raises(Refused, match="^client not attached to a vm$"):
        client.hyper("ping")
    again = scripted()
    accepting = accept_soon(again)
    client.hello(again, vm_id)
    accepting.join()


def test_bye_closely_behind_hello(daemon, scripted, vm_id):
    for _ in range(10):
        vm = scripted()
        accepting = accept_soon(vm)
        with Client1(daemon.path) as client:
            members = {"containerId": vm_id, "ctlSerial": vm.ctl_path, "ioSerial": vm.io_path}
            client.send("hello", members)
            client.send("bye", {"containerId": vm_id})
            assert client.answer() == {"version": 1}
            assert client.answer() is None
        accepting.join()


def test_a_vm_that_dies_mid_command_is_an_error(greeted):
    vm, client = greeted
    client.send("hyper", {"hyperName": "ping"})
    vm.command()
    vm.hang_up()
    with pytest.raises(Refused, match="is gone"):
        client.answer()


def test_the_agents_error_is_passed_on(greeted):
    vm, client = greeted
    client.send("hyper", {"hyperName": "startpod", "data": {}})
    vm.refuse(b"no pod")
    text = "ERROR received from VM agent, control msg received : no pod"
    with pytest.raises(Refused, match=f"^{text}$"):
        client.answer()


def test_json_passes_untouched(greeted):
    vm, client = greeted
    data = '{ "process":{"stdio": 7, "stderr":8 , "x":1.50e3}, "id":"c\\u0041" }'
    client.send_raw(b'{"id":"hyper","data":{"hyperName":"newcontainer","data":%s}}' % data.encode())
    assert vm.ack() == (Code.NEW_CONTAINER, data.encode())
    assert client.answer() is None


# ---- bytes


def test_byte_by_byte(daemon, greeted, vm_id):
    payload = json.dumps({"id": "attach", "data": {"containerId": vm_id}}).encode()
    with Client1(daemon.path) as client:
        for byte in struct.pack(">II", len(payload), 0) + payload:
            client.socket.sendall(bytes([byte]))
        assert client.answer() == {"version": 1}


def test_many_requests_in_one_write(daemon, greeted, vm_id):
    payload = json.dumps({"id": "attach", "data": {"containerId": vm_id}}).encode()
    with Client1(daemon.path) as client:
        client.socket.sendall((struct.pack(">II", len(payload), 0) + payload) * 10)
        assert [client.answer() for _ in range(10)] == [{"version": 1}] * 10


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x00\x00\x00\x02\x00\x00\x00\x01{}", "reserved field"),
        (b"\x00\x00\x00\x01\x00\x00\x00\x00{", "not JSON"),
        (b"\x00\x00\x00\x02\x00\x00\x00\x00[]", "must be a JSON object"),
        (b"\x00\x10\x00\x01\x00\x00\x00\x00", "neither protocol"),
        (b"\x01", "neither protocol"),
        (b"\x00\x03", "neither protocol"),
    ],
)
def test_broken_messages_end_their_connection_alone(daemon, greeted, vm_id, sent, reason):
    with Client1(daemon.path) as client:
        client.socket.sendall(sent)
        assert client.hung_up()
    daemon.wait_for_log(reason)
    with Client1(daemon.path) as other:
        assert other.call("attach", {"containerId": vm_id}) == {"version": 1}


def test_a_later_message_over_the_limit_is_answered_first(daemon, greeted, vm_id):
    with Client1(daemon.path) as client:
        client.call("attach", {"containerId": vm_id})
        client.socket.sendall(b"\xff\xff\xff\xff\0\0\0\0")
        with pytest.raises(Refused, match="over the limit of 1048576$"):
            client.answer()
        assert client.hung_up()


@pytest.mark.parametrize("sent", [b"\0", b"\0\0\0\x10", b"\0\0\0\x10\0\0\0\0{"])
def test_time_limit_for_half_a_message(start_daemon, sent):
    daemon = start_daemon("-frame-timeout", "0.2")
    with Client1(daemon.path) as slow:
        slow.socket.sendall(sent)
        assert slow.hung_up()
    daemon.wait_for_log("half a message")


def test_client_limit(start_daemon):
    daemon = start_daemon("-max-clients", "1")
    with Client1(daemon.path) as first, Client1(daemon.path) as second:
        with pytest.raises(Refused, match="unknown containerID"):
            first.call("attach", {"containerId": "x"})
        with pytest.raises(Refused, match="^1 clients are connected and no more are allowed"):
            second.call("attach", {"containerId": "x"})
        assert second.hung_up()


# ---- I/O descriptors


def test_numbers_are_never_given_out_twice(greeted):
    _, client = greeted
    with client.allocate(2) as first, client.allocate(1) as second, client.allocate(2) as third:
        assert (first.io_base, second.io_base, third.io_base) == (1, 3, 4)


def test_packets_travel_as_the_agent_sent_them(greeted):
    vm, client = greeted
    with client.allocate() as io:
        for seq, data in [
            (io.io_base, b"out"),
            (io.io_base + 1, b"e"),
            (io.io_base, b"o"),
            (io.io_base, b"x" * 10_000),
        ]:
            vm.output(seq, data)
            assert io.packet() == (seq, data)
        vm.output(io.io_base, b"")
        vm.output(io.io_base + 1, b"!")  # one byte, and still no exit status
        vm.output(io.io_base, b"\x2a")
        assert io.collect() == (b"", b"!", 42)
        with pytest.raises(EOFError):
            io.packet()


def test_stdin_and_its_end(greeted):
    vm, client = greeted
    with client.allocate() as io:
        io.stdin(b"hello")
        assert vm.input() == (io.io_base, b"hello")
        io.end_stdin()
        assert vm.input() == (io.io_base, b"")


def test_the_descriptor_outlives_the_connection_that_asked_for_it(daemon, scripted, vm_id):
    vm = scripted()
    accepting = accept_soon(vm)
    with Client1(daemon.path) as client:
        client.hello(vm, vm_id)
        accepting.join()
        io = client.allocate()
    with io:
        vm.output(io.io_base, b"still here")
        assert io.packet() == (io.io_base, b"still here")
        vm.exit(io.io_base, 3)
        assert io.collect()[2] == 3
    vm.hang_up()


def test_a_wrong_number_closes_that_descriptor_only(greeted):
    vm, client = greeted
    with client.allocate() as bad, client.allocate() as good:
        bad.socket.sendall(tty.encode(good.io_base, b"not mine"))
        with pytest.raises((EOFError, ConnectionResetError)):
            bad.packet()
        good.stdin(b"mine")
        assert vm.input() == (good.io_base, b"mine")
        vm.output(good.io_base, b"fine")
        assert good.packet() == (good.io_base, b"fine")


@pytest.mark.parametrize("length", [0, 11, 0xFFFFFFFF])
def test_a_broken_packet_closes_that_descriptor_only(greeted, length):
    vm, client = greeted
    with client.allocate() as bad, client.allocate() as good:
        bad.socket.sendall(struct.pack(">QI", bad.io_base, length))
        with pytest.raises((EOFError, ConnectionResetError)):
            bad.packet()
        good.stdin(b"mine")
        assert vm.input() == (good.io_base, b"mine")


def test_a_slow_reader_of_its_descriptor_stalls_nobody(greeted):
    vm, client = greeted
    with client.allocate() as stuck, client.allocate() as io:
        block = bytes(range(256)) * 256
        for _ in range(128):
            vm.output(stuck.io_base, block)
            vm.output(io.io_base, b"tick")
            assert io.packet() == (io.io_base, b"tick")
        vm.exit(stuck.io_base, 0)
        assert stuck.collect() == (block * 128, b"", 0)


def test_a_vm_that_goes_ends_the_descriptor(greeted):
    vm, client = greeted
    with client.allocate() as io:
        vm.output(io.io_base, b"last words")
        vm.hang_up()
        assert io.collect() == (b"last words", b"", 255)
        with pytest.raises(EOFError):
            io.packet()


def test_a_closed_descriptor_leaves_nothing(daemon, greeted):
    vm, client = greeted
    before = daemon.descriptors()
    for _ in range(20):
        client.allocate().close()
    wait_until(lambda: daemon.descriptors() == before, "all descriptors are closed")
    client.send("hyper", {"hyperName": "ping"})
    vm.ack()
    assert client.answer() is None


def test_descriptor_limit_reached_is_an_error_without_a_descriptor(start_daemon, scripted):
    import resource

    daemon = start_daemon()
    vm = scripted()
    accepting = accept_soon(vm)
    with Client1(daemon.path) as client:
        client.hello(vm, "c1")
        accepting.join()
        _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (daemon.descriptors(), hard))
        with pytest.raises(Refused, match="^cannot make an I/O descriptor: Too many open files$"):
            client.call("allocateIO", {"nStreams": 2})
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
        client.allocate().close()


# ---- with real processes


@pytest.fixture
def sandboxed(daemon, vm, vm_id):
    with Client1(daemon.path) as client:
        client.hello(vm, vm_id)
        yield client
        client.call("bye", {"containerId": vm_id})


def run(client, io, *args, **more):
    client.hyper("newcontainer", container("box") | {"process": started(io.io_base, *args, **more)})


def test_a_shell_session_over_the_descriptor(sandboxed):
    with sandboxed.allocate() as io:
        script = 'read line; echo "got $line"; echo oops >&2; exit 42'
        run(sandboxed, io, "sh", "-c", script)
        io.stdin(b"a line\n")
        io.end_stdin()
        assert io.collect() == (b"got a line\n", b"oops\n", 42)


def test_a_terminal_over_the_descriptor(sandboxed):
    with sandboxed.allocate(1) as io:
        run(sandboxed, io, "sh", "-c", "stty size; exit 1", streams=1, terminal=True)
        out, err, status = io.collect()
        assert out.endswith(b"\r\n")
        assert (err, status) == (b"", 1)


def test_8_mib_each_way(sandboxed):
    data = os.urandom(8 * MIB)
    with sandboxed.allocate() as io:
        run(sandboxed, io, "cat")
        sender = threading.Thread(target=lambda: (io.stdin(data), io.end_stdin()))
        sender.start()
        out, err, status = io.collect()
        sender.join()
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()
    assert (err, status) == (b"", 0)


def test_both_generations_on_one_vm(daemon, sandboxed, vm_id):
    with sandboxed.allocate() as io, daemon.client() as runtime:
        (token,) = runtime.attach(vm_id, 1)
        run(sandboxed, io, "cat")
        with daemon.shim(token) as shim:
            runtime.hyper("newcontainer", container("second", "cat"), token)
            io.stdin(b"by descriptor")
            shim.stdin(b"by frames")
            io.end_stdin()
            shim.stdin(b"")
            assert shim.collect() == (b"by frames", b"", 0)
            assert io.collect() == (b"by descriptor", b"", 0)


def test_numbers_of_both_generations_are_of_one_sequence(daemon, greeted, vm_id):
    vm, client = greeted
    with daemon.client() as runtime, client.allocate() as first:
        runtime.attach(vm_id)
        assert first.io_base == 1
        assert start(vm, runtime) == (3, 4)
        with client.allocate(1) as last:
            assert last.io_base == 5


def test_console_lines_are_logged(daemon, scripted, vm_id, tmp_path):
    vm = scripted()
    accepting = accept_soon(vm)
    path = str(tmp_path / "console")
    with socket.socket(socket.AF_UNIX) as listener, Client1(daemon.path) as client:
        listener.bind(path)
        listener.listen()
        client.hello(vm, vm_id, console=path)
        accepting.join()
        console, _ = listener.accept()
        with console:
            console.sendall(f"booted {vm_id}\r\n".encode())
            daemon.wait_for_log(f'msg="console: booted {vm_id}"')
