"""Protocol 2 as clients see it: answers, texts and orders, byte for byte."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading

import pytest

from ccproxy_lib.wire import frames
from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command, Notification, Stream, Type
from tests.e2e.harness import Client, Refused, container, process


def hung_up(client: Client) -> bool:
    """Whether nothing but the end of the connection comes."""
    return client.frame() is None


# ---- RegisterVM, AttachVM, UnregisterVM


def test_register_answers_url_and_tokens(daemon, scripted, vm_id):
    vm = scripted()
    threading.Thread(target=vm.accept).start()
    with daemon.client() as runtime:
        members = {"containerId": vm_id, "ctlSerial": vm.ctl_path, "ioSerial": vm.io_path}
        answer = runtime.call(Command.REGISTER_VM, members | {"numIOStreams": 2})
        shape = rb'\{"io":\{"URL":"unix://%s","tokens":\["([\w-]{43}=)","([\w-]{43}=)"\]\}\}'
        match = re.fullmatch(shape % re.escape(daemon.path.encode()), answer)
        assert match
        assert match[1] != match[2]


def test_attach_without_streams_answers_null_tokens(daemon, registered, vm_id):
    with daemon.client() as runtime:
        answer = runtime.call(Command.ATTACH_VM, {"containerId": vm_id})
        assert answer == b'{"io":{"URL":"unix://%s","tokens":null}}' % daemon.path.encode()


def test_success_without_a_result_is_an_empty_payload(daemon, registered, vm_id):
    _, runtime = registered
    assert runtime.call(Command.UNREGISTER_VM, {"containerId": vm_id}) == b""


def test_names_match_in_any_case_and_unknown_members_are_ignored(daemon, registered, vm_id):
    with daemon.client() as runtime:
        members = {"CONTAINERID": vm_id, "numiostreams": 1, "surprise": [1, {"2": 3}]}
        assert len(json.loads(runtime.call(Command.ATTACH_VM, members))["io"]["tokens"]) == 1


def test_registering_twice_is_refused_and_leaves_the_first_alone(daemon, registered, vm_id):
    vm, runtime = registered
    with daemon.client() as other:
        with pytest.raises(Refused, match=f"^{vm_id}: container already registered$"):
            other.register(vm, vm_id)
    runtime.hyper_command("ping")
    assert vm.ack(b"still here").code == Code.PING
    assert runtime.answer() == b"still here"


@pytest.mark.parametrize("command", [Command.ATTACH_VM, Command.UNREGISTER_VM])
def test_unknown_vm(daemon, command):
    with daemon.client() as client:
        with pytest.raises(Refused, match="^unknown containerID: nobody$"):
            client.call(command, {"containerId": "nobody"})


def test_an_unregistered_id_is_free_again(daemon, scripted, vm_id):
    for _ in range(2):
        vm = scripted()
        threading.Thread(target=vm.accept).start()
        with daemon.client() as runtime:
            runtime.register(vm, vm_id)
            runtime.unregister(vm_id)


def test_channels_that_cannot_be_reached(daemon, scripted, vm_id, tmp_path):
    vm = scripted()
    plain = tmp_path / "plain"
    plain.touch()
    refusing = tmp_path / "refusing"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(refusing))
    long = str(tmp_path / ("x" * 200))
    with daemon.client() as runtime:
        for ctl_path, reason in [
            (str(tmp_path / "absent"), "No such file or directory"),
            (str(plain), "Connection refused"),
            (str(refusing), "Connection refused"),
            (long, "AF_UNIX path too long"),
        ]:
            members = {"containerId": vm_id, "ctlSerial": ctl_path, "ioSerial": vm.io_path}
            expected = f"cannot connect to the control channel {ctl_path}: {reason}"
            with pytest.raises(Refused, match=f"^{re.escape(expected)}$"):
                runtime.call(Command.REGISTER_VM, members)
        members = {"containerId": vm_id, "ctlSerial": vm.ctl_path, "ioSerial": "/no/where"}
        with pytest.raises(Refused, match="^cannot connect to the I/O channel /no/where: "):
            runtime.call(Command.REGISTER_VM, members)
        with pytest.raises(Refused, match="unknown containerID"):
            runtime.attach(vm_id)


# ---- Hyper


def test_the_agents_answer_is_passed_on_raw(daemon, registered):
    vm, runtime = registered
    runtime.hyper_command("version")
    assert vm.ack(b"\x00\x00\x10\x92") == (Code.VERSION, b"")
    assert runtime.answer() == b"\x00\x00\x10\x92"


def test_data_reaches_the_agent_as_it_was_written(daemon, registered):
    vm, runtime = registered
    data = '{ "b" : 1.50e3, "a":[ 1,2 ],\t"\\u0041": "/\\/é" }'
    payload = '{"HYPERNAME":"startpod", "data":%s, "tokens":null}' % data
    runtime.command(Command.HYPER, payload.encode())
    assert vm.ack() == (Code.START_POD, data.encode())
    assert runtime.answer() == b""


def test_the_agents_error_is_passed_on(daemon, registered):
    vm, runtime = registered
    runtime.hyper_command("startpod", {})
    vm.refuse(b"no pod today")
    with pytest.raises(
        Refused, match="^ERROR received from VM agent, control msg received : no pod"
    ):
        runtime.answer()


def test_next_messages_come_before_an_answer_and_mean_nothing(daemon, registered):
    vm, runtime = registered
    runtime.hyper_command("ping")
    vm.command()
    vm.send(Code.NEXT, struct.pack(">I", 8))
    vm.send(Code.NEXT, struct.pack(">I", 8))
    vm.send(Code.ACK, b"pong")
    assert runtime.answer() == b"pong"


def test_agent_events_at_any_moment_disturb_no_command(daemon, registered):
    vm, runtime = registered
    event = b'{"container":"c","process":"p","event":"finished"}'
    vm.send(Code.PROCESS_ASYNC_EVENT, event)
    runtime.hyper_command("ping")
    vm.command()
    vm.send(Code.PROCESS_ASYNC_EVENT, event)
    vm.send(Code.ACK, b"pong")
    assert runtime.answer() == b"pong"


def test_concurrent_commands_get_their_own_answers(daemon, registered, vm_id):
    vm, _ = registered
    clients = [daemon.client() for _ in range(8)]
    try:
        for number, client in enumerate(clients):
            client.attach(vm_id)
            client.hyper_command("startpod", {"number": number})
        for _ in clients:
            # The VM has one command at a time, and none may overtake another's answer.
            command = vm.command()
            vm.send(Code.ACK, command.payload)
        for number, client in enumerate(clients):
            assert json.loads(client.answer()) == {"number": number}
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("name", "data", "tokens", "text"),
    [
        ("no-such", None, [], "unknown command 'no-such'"),
        ("allocate", None, [], "unknown command 'allocate'"),
        ("ping", None, ["t"], "ping doesn't need tokens but 1 token(s) were given"),
        ("newcontainer", container("c"), ["a", "b"], "expected 0 or 1 token, got 2"),
        ("newcontainer", container("c"), ["nonsense"], "unknown token: nonsense"),
        ("newcontainer", {"id": "c"}, [], "newcontainer needs a 'process' object in its data"),
        ("execcmd", None, [], "execcmd needs 'data' with a 'process'"),
        (
            "newcontainer",
            {"id": "c", "process": process("x", stdio=5)},
            [],
            "expected process.Stdio to be 0, got 5",
        ),
        (
            "startpod",
            {"x": "y" * 11000},
            [],
            "the agent command has 11009 bytes of data; agents take at most 10232",
        ),
    ],
)
def test_refused_commands_do_not_reach_the_agent(daemon, registered, name, data, tokens, text):
    vm, runtime = registered
    with pytest.raises(Refused, match=f"^{re.escape(text)}$"):
        runtime.hyper(name, data, *tokens)
    runtime.hyper_command("ping")
    assert vm.ack().code == Code.PING
    assert runtime.answer() == b""


def test_hyper_needs_a_vm(daemon):
    with daemon.client() as client:
        with pytest.raises(Refused, match="^client not attached to a vm$"):
            client.hyper("ping")


def test_a_token_of_another_vm_is_unknown(daemon, registered, scripted, vm_id):
    other = scripted()
    threading.Thread(target=other.accept).start()
    with daemon.client() as runtime:
        (token,) = runtime.register(other, f"{vm_id}-other", 1)
        with pytest.raises(Refused, match="^unknown token: "):
            registered[1].hyper("newcontainer", container("c", "x"), token)


# ---- stream numbers


def start(vm, runtime, name="c", token=None, **more):
    """Start a process in the scripted VM; return its numbers."""
    runtime.hyper_command("newcontainer", container(name, "x", **more), *([token] if token else []))
    process = json.loads(vm.ack().payload)["process"]
    assert runtime.answer() == b""
    return process["stdio"], process.get("stderr")


def test_stream_numbers_are_fresh_with_each_process(daemon, registered):
    vm, runtime = registered
    seen = [start(vm, runtime), start(vm, runtime), start(vm, runtime, terminal=True)]
    assert seen == [(1, 2), (3, 4), (5, None)]


def test_output_is_framed_by_stream_and_the_exit_status_comes_last(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio, stderr = start(vm, runtime, token=token)
        vm.output(stdio, b"out")
        assert shim.frame() == (Type.STREAM, Stream.STDOUT, b"out", False)
        vm.output(stderr, b"err")
        assert shim.frame() == (Type.STREAM, Stream.STDERR, b"err", False)
        vm.exit(stdio, 42)
        assert shim.frame() == (Type.NOTIFICATION, Notification.PROCESS_EXITED, b"\x2a", False)


def test_one_byte_on_stderr_after_stdouts_end_is_output(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio, stderr = start(vm, runtime, token=token)
        vm.output(stdio, b"")
        vm.output(stderr, b"!")
        vm.output(stdio, b"\x07")
        assert shim.collect() == (b"", b"!", 7)


def test_one_byte_on_stdout_is_output(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio, _ = start(vm, runtime, token=token)
        vm.output(stdio, b"!")
        vm.exit(stdio, 0)
        assert shim.collect() == (b"!", b"", 0)


def test_output_for_no_process_is_dropped(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio, _ = start(vm, runtime, token=token)
        vm.output(4711, b"stray")
        vm.exit(stdio, 3)
        assert shim.collect() == (b"", b"", 3)


def test_stdin_arrives_in_messages_that_agents_can_take(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    data = bytes(range(256)) * 100
    with daemon.shim(token) as shim:
        stdio, _ = start(vm, runtime, token=token)
        shim.stdin(data)
        shim.stdin(b"")
        got = b""
        while len(got) < len(data):
            seq, piece = vm.input()
            assert seq == stdio
            assert 0 < len(piece) <= 4096 - 12
            got += piece
        assert got == data
        assert vm.input() == (stdio, b"")


# ---- shims


def test_connect_shim_refusals(daemon, registered, vm_id):
    _, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token), daemon.client() as other:
        with pytest.raises(Refused, match="^unknown token: x$"):
            other.call(Command.CONNECT_SHIM, {"token": "x"})
        with pytest.raises(Refused, match=f"^token already claimed: {token}$"):
            other.call(Command.CONNECT_SHIM, {"token": token})


@pytest.mark.parametrize("command", [Command.SIGNAL, Command.DISCONNECT_SHIM])
def test_shim_commands_are_for_shims(daemon, command):
    with daemon.client() as client, pytest.raises(Refused, match="^client isn't a shim$"):
        client.call(command, {"signalNumber": 1})


def test_disconnect_frees_the_token(daemon, registered, vm_id):
    _, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        shim.command(Command.DISCONNECT_SHIM, b"")
        assert hung_up(shim)
    with daemon.client() as other, pytest.raises(Refused, match="^unknown token: "):
        other.call(Command.CONNECT_SHIM, {"token": token})


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"signalNumber": 31}, "invalid signal number 31"),
        ({"signalNumber": -1}, "invalid signal number -1"),
        ({}, "'signalNumber' is missing"),
        ({"signalNumber": 28}, "received SIGWINCH but terminal size is invalid (0,0)"),
        (
            {"signalNumber": 15, "columns": 80, "rows": 24},
            "received a terminal size (80,24) for signal terminated",
        ),
    ],
)
def test_bad_signals(daemon, registered, vm_id, members, text):
    _, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim, pytest.raises(Refused, match=f"^{re.escape(text)}$"):
        shim.call(Command.SIGNAL, members)


def test_signals_become_agent_commands(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio, _ = start(vm, runtime, "box", token)
        shim.command(Command.SIGNAL, {"signalNumber": 10})
        wanted = b'{"container":"box","signal":10,"allProcesses":false}'
        assert vm.ack() == (Code.KILL_CONTAINER, wanted)
        assert shim.answer() == b""
        shim.command(Command.SIGNAL, {"signalNumber": 28, "columns": 80, "rows": 24})
        wanted = b'{"seq":%d,"row":24,"column":80}' % stdio
        assert vm.ack() == (Code.WIN_SIZE, wanted)
        assert shim.answer() == b""


@pytest.mark.parametrize("number", [9, 15])
def test_kill_before_start_ends_the_shim_at_once(daemon, registered, vm_id, number):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        shim.stdin(b"early input")
        shim.command(Command.SIGNAL, {"signalNumber": 10})
        shim.command(Command.SIGNAL, {"signalNumber": number})
        with pytest.raises(Refused, match="^the process was ended before it was started$"):
            shim.answer()
        assert shim.frame() == (Type.NOTIFICATION, Notification.PROCESS_EXITED, b"\x00", False)
        assert shim.answer() == b""
    runtime.hyper_command("ping")
    assert vm.ack().code == Code.PING  # and nothing else before it
    assert runtime.answer() == b""


def test_early_stdin_and_signals_reach_the_agent_in_order(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        shim.stdin(b"before ")
        shim.command(Command.SIGNAL, {"signalNumber": 10})
        stdio, _ = start(vm, runtime, "box", token)
        assert json.loads(vm.ack().payload)["signal"] == 10
        assert shim.answer() == b""
        shim.stdin(b"after")
        got = b""
        while got != b"before after":
            seq, piece = vm.input()
            assert seq == stdio
            got += piece


def test_refusals_take_their_turn_behind_signals_that_wait(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        shim.command(Command.SIGNAL, {"signalNumber": 10})
        shim.command(Command.SIGNAL, {"signalNumber": 31})
        shim.command(Command.HYPER, {"hyperName": "ping"})
        start(vm, runtime, "box", token)
        vm.ack()
        assert shim.answer() == b""
        with pytest.raises(Refused, match="^invalid signal number 31$"):
            shim.answer()
        with pytest.raises(Refused, match="^a shim may only act on its own session$"):
            shim.answer()


def test_newcontainer_waits_for_the_shim(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    runtime.hyper_command("newcontainer", container("box", "x"), token)
    with daemon.shim(token):
        assert vm.ack().code == Code.NEW_CONTAINER
        assert runtime.answer() == b""


def test_a_token_is_good_for_one_process(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token):
        start(vm, runtime, token=token)
        with pytest.raises(Refused, match=f"^token already used for a process: {token}$"):
            runtime.hyper("newcontainer", container("c2", "x"), token)


def test_log_entries_land_in_the_log(daemon, registered, vm_id):
    entry = {"source": "shim", "containerId": "box", "level": "warn", "msg": f"from {vm_id}\n"}
    with daemon.client() as client:
        client.send(Type.STREAM, Stream.LOG, json.dumps(entry).encode())
        log = daemon.wait_for_log(f"from {vm_id}")
    line = next(line for line in log.splitlines() if f"from {vm_id}" in line)
    assert "level=warning" in line
    assert f'msg="from {vm_id}\\n"' in line
    assert "source=shim container=box" in line


# ---- bytes


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


def frame_bytes(version=2, words=3, flags=0, opcode=0, length=0):
    return struct.pack(">HB3xBBI", version, words, flags, opcode, length)


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
