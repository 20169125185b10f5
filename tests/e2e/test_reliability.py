"""Deadlines, slow and lost shims, rights, limits and the orderly end."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
import threading

import pytest

from ccproxy_lib.wire import frames
from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command, Stream, Type
from tests.e2e.harness import Refused, as_somebody, container, process, wait_until
from tests.e2e.test_protocol2 import hung_up, start
from tests.e2e.test_where_the_original_falls_over import accept_soon, assert_alive, one_session

pytestmark = pytest.mark.lasting

MIB = 1 << 20


@pytest.fixture
def pair(start_daemon, scripted):
    """Start a daemon with flags, register a VM; returns daemon, VM and runtime."""
    runtimes = []

    def make(*flags):
        daemon = start_daemon(*flags)
        vm = scripted()
        accepting = accept_soon(vm)
        runtime = daemon.client()
        runtimes.append(runtime)
        runtime.register(vm)
        accepting.join()
        return daemon, vm, runtime

    yield make
    for runtime in runtimes:
        runtime.close()


# ---- deadlines


def test_command_deadline_says_what_is_unknown_and_late_answers_go_nowhere_else(pair):
    _, vm, runtime = pair("-command-timeout", "0.2")
    runtime.hyper_command("startpod", {})
    text = "the agent did not answer start_pod within 0.2 s; the command may still have run"
    with pytest.raises(Refused, match=f"^{text}$"):
        runtime.answer()
    text = "the agent was busy with earlier commands for 0.2 s; version was not sent"
    with pytest.raises(Refused, match=f"^{text}$"):
        runtime.hyper("version")
    assert vm.command().code == Code.START_POD
    vm.send(Code.ACK, b"late")
    assert_alive(vm, runtime)  # and "version", which was withdrawn, never came


def test_deadline_for_a_shim(pair):
    _, vm, runtime = pair("-shim-timeout", "0.2")
    (token,) = runtime.attach("c1", 1)
    with pytest.raises(Refused, match=f"^timeout waiting for shim with token {token}$"):
        runtime.hyper("newcontainer", container("c", "x"), token)
    assert_alive(vm, runtime)


def test_deadline_for_a_process(pair):
    daemon, vm, runtime = pair("-process-timeout", "0.2")
    (token,) = runtime.attach("c1", 1)
    with daemon.shim(token) as shim:
        shim.stdin(b"kept")
        runtime.attach("c1")  # by now the proxy waits with that stdin in hand
        with pytest.raises(Refused, match=f"^timeout waiting for process with token {token}$"):
            shim.call(Command.SIGNAL, {"signalNumber": 10})
        stdio, _ = start(vm, runtime, token=token)
        assert vm.input() == (stdio, b"kept")


def test_waiting_ends_at_once_when_the_vm_goes(daemon, registered, vm_id):
    vm, runtime = registered
    waiting, claimed = runtime.attach(vm_id, 2)
    runtime.hyper_command("newcontainer", container("c", "x"), waiting)
    with daemon.shim(claimed) as shim:
        shim.command(Command.SIGNAL, {"signalNumber": 10})
        vm.hang_up()
        with pytest.raises(Refused, match="is gone"):
            runtime.answer()
        frame = shim.frame()
        answers = {frame.type, shim.frame().type}
        assert answers == {Type.RESPONSE, Type.NOTIFICATION}


def test_a_start_that_is_acknowledged_late_still_starts(pair):
    daemon, vm, runtime = pair("-command-timeout", "0.2")
    (token,) = runtime.attach("c1", 1)
    with daemon.shim(token) as shim:
        runtime.hyper_command("newcontainer", container("c", "x"), token)
        with pytest.raises(Refused, match="may still have run"):
            runtime.answer()
        process = json.loads(vm.command().payload)["process"]
        vm.send(Code.ACK)
        vm.exit(process["stdio"], 11)
        assert shim.collect()[2] == 11


def test_an_agent_that_was_ready_for_another_connection_is_asked(daemon, vm, vm_id):
    with daemon.client() as runtime:
        for _ in range(2):  # the sandbox agent says READY once in its life, as real ones do
            runtime.register(vm, vm_id)
            assert runtime.hyper("version") == (4242).to_bytes(4, "big")
            runtime.unregister(vm_id)


def test_a_stale_answer_is_not_taken_for_the_next_commands(daemon, scripted, vm_id):
    vm = scripted()
    accepting = accept_soon(vm, ready=False)
    with daemon.client() as runtime:
        members = {"containerId": vm_id, "ctlSerial": vm.ctl_path, "ioSerial": vm.io_path}
        runtime.command(Command.REGISTER_VM, members)
        accepting.join()
        assert vm.command().code == Code.PING
        vm.send(Code.ACK, b"stale")
        vm.send(Code.ACK, b"pong")
        runtime.answer()
        assert_alive(vm, runtime)


def test_a_vm_outlives_the_daemon_and_its_processes_disturb_no_later_ones(start_daemon, sandbox):
    vm = sandbox()
    first = start_daemon()
    with first.client() as runtime:
        (token,) = runtime.register(vm, streams=1)
        with first.shim(token) as shim:
            runtime.hyper("newcontainer", container("box", "sleep", "1000"), token)
            assert first.stop() == 0
            assert shim.collect() == (b"", b"", 255)
    second = start_daemon()
    with second.client() as runtime:
        (token,) = runtime.register(vm, streams=1)
        with second.shim(token) as shim:
            command = {"container": "box", "process": process("sh", "-c", "cat; exit 3")}
            # An agent powers its VM off over a stream number that was used before.
            runtime.hyper("execcmd", command, token)
            shim.stdin(b"mine")
            shim.stdin(b"")
            assert shim.collect() == (b"mine", b"", 3)


# ---- slow shims


def flood(vm, stdio, size, block=1 << 16):
    data = bytes(range(256)) * (block // 256)
    for _ in range(size // block):
        vm.output(stdio, data)
    return data * (size // block)


def spools(daemon) -> list[str]:
    """The spool files that the daemon has open."""
    found = []
    for name in os.listdir(f"/proc/{daemon.pid}/fd"):
        try:
            target = os.readlink(f"/proc/{daemon.pid}/fd/{name}")
        except FileNotFoundError:
            continue
        if target.endswith("(deleted)"):
            found.append(f"/proc/{daemon.pid}/fd/{name}")
    return found


def test_output_beyond_the_buffer_goes_to_a_file_without_a_name(pair):
    daemon, vm, runtime = pair("-session-buffer", "64K")
    _, shim, stdio = one_session(daemon, runtime, vm, "c1")
    with shim:
        sent = flood(vm, stdio, 8 * MIB)
        assert_alive(vm, runtime)
        wait_until(lambda: spools(daemon), "output is spooled")
        (spool,) = spools(daemon)
        assert os.stat(spool).st_mode & 0o777 == 0o600
        vm.exit(stdio, 1)
        assert shim.collect() == (sent, b"", 1)
        wait_until(lambda: not spools(daemon), "the spool is closed")


def test_the_order_of_both_streams_survives_the_spool(pair):
    daemon, vm, runtime = pair("-session-buffer", "4K")
    (token,) = runtime.attach("c1", 1)
    with daemon.shim(token) as shim:
        stdio, stderr = start(vm, runtime, token=token)
        pieces = [(stdio + i % 2, b"%07d" % i * 500) for i in range(600)]
        for seq, data in pieces:
            vm.output(seq, data)
        assert_alive(vm, runtime)
        vm.exit(stdio, 0)
        assert stderr == stdio + 1
        got = b""
        while (frame := shim.frame()).type == Type.STREAM:
            got += frame.payload
        assert got == b"".join(data for _, data in pieces)


def test_when_the_spool_is_full_too_the_vm_waits_and_nothing_is_lost(pair):
    daemon, vm, runtime = pair("-session-buffer", "64K", "-session-spool", "1M")
    _, shim, stdio = one_session(daemon, runtime, vm, "c1")
    with shim:
        sent = []
        sender = threading.Thread(target=lambda: sent.append(flood(vm, stdio, 16 * MIB)))
        sender.start()
        log = daemon.wait_for_log("session is full")
        assert f"stdio={stdio}" in log
        assert_alive(vm, runtime)  # the control channel does not wait
        assert sum(os.stat(spool).st_size for spool in spools(daemon)) <= MIB
        got = b""
        while len(got) < 16 * MIB:
            got += shim.frame().payload
        sender.join()
        assert got == sent[0]
        assert "session has room again" in daemon.log


def test_without_a_spool_the_vm_waits_when_the_buffer_is_full(pair):
    daemon, vm, runtime = pair("-session-buffer", "64K", "-session-spool", "0")
    _, shim, stdio = one_session(daemon, runtime, vm, "c1")
    with shim:
        sender = threading.Thread(target=flood, args=(vm, stdio, 4 * MIB))
        sender.start()
        daemon.wait_for_log("session is full")
        assert not spools(daemon)
        assert len(shim.read_stdout_bytes(4 * MIB)) == 4 * MIB
        sender.join()


def test_a_spool_that_cannot_be_made_makes_the_vm_wait(start_daemon, scripted):
    daemon = start_daemon("-session-buffer", "64K", env={"TMPDIR": "/no/such/place"})
    vm = scripted()
    accepting = accept_soon(vm)
    with daemon.client() as runtime:
        runtime.register(vm)
        accepting.join()
        _, shim, stdio = one_session(daemon, runtime, vm, "c1")
        with shim:
            sender = threading.Thread(target=flood, args=(vm, stdio, 4 * MIB))
            sender.start()
            daemon.wait_for_log('reason="the spool cannot grow: No such file or directory"')
            assert len(shim.read_stdout_bytes(4 * MIB)) == 4 * MIB
            sender.join()


def test_a_process_that_does_not_read_its_stdin_stalls_only_its_own_shim(pair):
    daemon, vm, runtime = pair("-session-buffer", "64K")
    _, shim, _ = one_session(daemon, runtime, vm, "c1")
    _, other, stdio = one_session(daemon, runtime, vm, "c1")
    with shim, other:
        data = os.urandom(4 * MIB)
        sender = threading.Thread(target=shim.stdin_in_frames, args=(data,))
        sender.start()
        vm.output(stdio, b"undisturbed")
        assert other.read_stdout(b"undisturbed") == b"undisturbed"
        assert_alive(vm, runtime)
        got = b""
        while len(got) < len(data):
            got += vm.input()[1]
        sender.join()
        assert got == data


# ---- lost shims


def test_replay_is_in_order_and_nothing_comes_twice(daemon, registered, vm_id):
    vm, runtime = registered
    token, shim, stdio = one_session(daemon, runtime, vm, vm_id)
    sent = b""
    got = b""
    for number in range(5):
        piece = b"%d" % number * 10_000
        vm.output(stdio, piece)
        sent += piece
        while len(got) < len(sent):
            got += shim.frame().payload
        shim.close()
        daemon.wait_for_log("shim lost", number + 1)
        piece = b"lost %d" % number * 1000
        vm.output(stdio, piece)
        sent += piece
        shim = daemon.shim(token)
    with shim:
        vm.exit(stdio, 0)
        assert got + shim.collect()[0] == sent


def test_a_shim_lost_in_the_middle_of_a_frame(pair):
    daemon, vm, runtime = pair()
    token, shim, stdio = one_session(daemon, runtime, vm, "c1")
    sent = flood(vm, stdio, 4 * MIB)
    vm.exit(stdio, 0)
    assert_alive(vm, runtime)
    taken = b""
    while len(taken) < MIB:
        taken += shim.frame().payload
    shim.close()
    daemon.wait_for_log("shim lost")
    with daemon.shim(token) as again:
        rest, _, status = again.collect()
    # What was in the dead shim's socket is gone with it; the rest is whole and in order.
    assert sent.startswith(taken)
    assert sent.endswith(rest)
    assert len(rest) > MIB
    assert status == 0


def test_exit_status_unread_by_a_lost_shim_is_delivered_again(daemon, registered, vm_id):
    vm, runtime = registered
    token, shim, stdio = one_session(daemon, runtime, vm, vm_id)
    vm.exit(stdio, 77)
    daemon.wait_for_log("status=77")
    shim.close()
    daemon.wait_for_log("shim lost")
    with daemon.shim(token) as again:
        assert again.collect() == (b"", b"", 77)


def test_a_shim_that_has_read_everything_leaves_nothing_behind(daemon, registered, vm_id):
    vm, runtime = registered
    token, shim, stdio = one_session(daemon, runtime, vm, vm_id)
    vm.exit(stdio, 0)
    with shim:
        assert shim.collect()[2] == 0

    def unknown() -> bool:
        try:
            daemon.shim(token).close()
        except Refused as refusal:
            return "unknown token" in str(refusal)
        return False

    wait_until(unknown, "the session is freed")


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


# ---- hostile guests


@pytest.mark.parametrize(
    ("channel", "sent", "reason"),
    [
        ("ctl", b"\0\0\0\x09\0\0\0\x07", "control message of 7 bytes"),
        ("ctl", b"\0\0\0\x09\xff\xff\xff\xff", "control message of 4294967295 bytes"),
        ("ctl", b"\0\0\0\x2a\0\0\0\x08", "unexpected message code 42"),
        ("io", b"\0" * 12, "I/O message of 0 bytes"),
        ("io", b"\0" * 8 + b"\xff" * 4, "I/O message of 4294967295 bytes"),
    ],
)
def test_a_guest_that_breaks_its_protocol_loses_only_itself(
    daemon, registered, scripted, vm_id, channel, sent, reason
):
    vm, runtime = registered
    other = scripted()
    accepting = accept_soon(other)
    with daemon.client() as bystander:
        bystander.register(other, f"{vm_id}-other")
        accepting.join()
        getattr(vm, channel).sendall(sent)
        assert reason in daemon.wait_for_log(reason)
        with pytest.raises(Refused, match="is gone"):
            runtime.hyper("ping")
        assert_alive(other, bystander)


def test_an_answer_to_no_command_is_dropped(daemon, registered):
    vm, runtime = registered
    vm.send(Code.ACK, b"uncalled for")
    daemon.wait_for_log("answer of the agent to no command")
    assert_alive(vm, runtime)


def test_a_failed_registration_leaks_nothing(daemon, vm_id, tmp_path):
    before = daemon.descriptors()
    with socket.socket(socket.AF_UNIX) as listener, daemon.client() as runtime:
        ctl_path = str(tmp_path / "ctl")
        listener.bind(ctl_path)
        listener.listen(100)
        members = {"containerId": vm_id, "ctlSerial": ctl_path, "ioSerial": "/no/where"}
        for _ in range(20):
            with pytest.raises(Refused, match="cannot connect to the I/O channel"):
                runtime.call(Command.REGISTER_VM, members)
    wait_until(lambda: daemon.descriptors() <= before, "everything is closed")


def test_a_channel_that_nobody_accepts(start_daemon, tmp_path):
    daemon = start_daemon("-ready-timeout", "0.2")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        path = str(tmp_path / "ctl")
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        with daemon.client() as runtime:
            members = {"containerId": "c1", "ctlSerial": path, "ioSerial": path}
            with pytest.raises(Refused, match="nobody accepts the connection$"):
                runtime.call(Command.REGISTER_VM, members)


# ---- the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_orderly_end_with_stuck_peers(pair, number):
    daemon, vm, runtime = pair()
    _, stuck, stdio = one_session(daemon, runtime, vm, "c1")
    with stuck, daemon.client() as other:
        flood(vm, stdio, 2 * MIB)
        other.attach("c1")
        other.hyper_command("ping")
        assert vm.command().code == Code.PING  # and never answered
        daemon.process.send_signal(number)
        with pytest.raises(Refused, match="the proxy is stopping"):
            other.answer()
        assert daemon.process.wait(5) == 0
        assert not os.path.exists(daemon.path)
        assert vm.ctl.recv(1) == b""


def test_a_socket_that_is_no_longer_ours_stays(start_daemon):
    daemon = start_daemon()
    os.unlink(daemon.path)
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(daemon.path)
        assert daemon.stop() == 0
        assert os.path.exists(daemon.path)


def test_sigusr1_logs_greenlets_and_goes_on(pair):
    daemon, vm, runtime = pair()
    daemon.process.send_signal(signal.SIGUSR1)
    log = daemon.wait_for_log("_collect_garbage")
    assert "greenlets count=" in log
    assert "ctl_channel.py" in daemon.wait_for_log("ctl_channel.py")
    assert_alive(vm, runtime)


# ---- cycles


def resident_bytes(daemon) -> int:
    with open(f"/proc/{daemon.pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.heavy
def test_1000_cycles_leave_nothing(start_daemon, scripted):
    daemon = start_daemon()
    vm = scripted()
    grown = {}

    def cycle():
        accepting = accept_soon(vm)
        with daemon.client() as runtime:
            (token,) = runtime.register(vm, "c1", 1)
            accepting.join()
            with daemon.shim(token) as shim:
                stdio, _ = start(vm, runtime, token=token)
                vm.output(stdio, b"output")
                vm.exit(stdio, 0)
                assert shim.collect() == (b"output", b"", 0)
                shim.command(Command.DISCONNECT_SHIM)
            runtime.unregister()

    for number in range(1000):
        if number in (10, 500):
            grown[number] = resident_bytes(daemon), daemon.descriptors()
        cycle()
    wait_until(lambda: daemon.descriptors() <= grown[10][1], "descriptors are flat")
    assert resident_bytes(daemon) - grown[500][0] < 2 * MIB


def test_log_streams_of_a_shim_are_its_own(daemon, registered, vm_id):
    _, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        shim.send(Type.STREAM, Stream.LOG, b'{"source":"moon","level":"info","msg":"x"}')
        assert hung_up(shim)
    assert "unknown log source" in daemon.wait_for_log("invalid log entry")
