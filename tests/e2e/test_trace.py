"""At info the log tells each life once, step by step; tokens are in it at no level."""

from __future__ import annotations

import json
import os
import re
import signal
import threading

import logfmtkv
import pytest

from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command, Stream, Type
from tests.e2e.client1 import Client1
from tests.e2e.harness import TOP, Refused, container, process

# What differs from run to run.
VARYING = {"time", "level", "pid", "uid", "gid", "waited_s"}
SIGTERM = 15


def trace(daemon, level: str = "info") -> list[str]:
    """What has been told at info and above since the daemon's first client, without the varying."""
    said = [logfmtkv.parse(line, strict=True) for line in daemon.log.splitlines()]
    first = next(number for number, each in enumerate(said) if each["msg"] == "client gone") + 1
    return [line_of(each) for each in said[first:] if each["level"] != "debug"]


def line_of(said: dict) -> str:
    fields = [f"{name}={said[name]}" for name in said if name not in VARYING | {"msg"}]
    return ": ".join([said["msg"], " ".join(fields)]).removesuffix(": ")


def example(title: str) -> list[str]:
    """The lines that the document shows under a heading."""
    text = (TOP / "docs" / "LOGGING.md").read_text().partition(f"\n## {title}\n")[2]
    lines = re.findall(r"^    (.*)$", text.partition("\n## ")[0], re.M)
    return [line_of(logfmtkv.parse(line, strict=True)) for line in lines]


def register(client, vm, vm_id: str, streams: int = 0) -> list[str]:
    accepting = threading.Thread(target=vm.accept)
    accepting.start()
    try:
        return client.register(vm, vm_id, streams)
    finally:
        accepting.join()


def start(vm, runtime, data: dict, *tokens: str, name: str = "newcontainer") -> int:
    """Start a process; returns its stdio number."""
    runtime.hyper_command(name, data, *tokens)
    started = json.loads(vm.ack().payload)
    runtime.answer()
    return started["process"]["stdio"]


def test_the_whole_life_of_a_vm_a_session_and_a_client(start_daemon, scripted):
    daemon = start_daemon()
    vm = scripted()
    with daemon.client() as runtime:
        (token,) = register(runtime, vm, "pod", 1)
        shim = daemon.shim(token)
        stdio = start(vm, runtime, container("box", "x", terminal=True), token)
        shim.close()
        daemon.wait_for_log("shim lost")
        daemon.wait_for_log("client gone", 2)
        with daemon.shim(token) as shim:
            for _ in range(100):
                vm.output(stdio, b"y")
                shim.stdin(b"z")
            vm.exit(stdio, 7)
            assert shim.collect()[2] == 7
            shim.command(Command.DISCONNECT_SHIM)
            assert shim.frame() is None
        daemon.wait_for_log("client gone", 3)
        runtime.unregister("pod")
        daemon.wait_for_log("VM closed")
    daemon.wait_for_log("client gone", 4)
    assert daemon.stop() == 0
    told = example("A life at info")
    assert trace(daemon) == told
    (warning,) = (line for line in daemon.log.splitlines() if "level=warning" in line)
    assert "shim lost" in warning


def test_lives_that_end_badly(start_daemon, scripted):
    daemon = start_daemon()
    vm = scripted()
    with daemon.client() as runtime:
        tokens = register(runtime, vm, "pod", 3)
        with pytest.raises(Refused):
            runtime.register(vm, "pod")
        with daemon.shim(tokens[0]) as shim, daemon.shim(tokens[1]) as waiting:
            runtime.hyper_command("newcontainer", container("bad", "x", terminal=True), tokens[0])
            vm.refuse(b"no such rootfs")
            with pytest.raises(Refused):
                runtime.answer()
            assert shim.collect()[2] == 255
            shim.command(Command.SIGNAL, {"signalNumber": 99})
            assert shim.frame().error
            start(vm, runtime, {"container": "bad", "process": process("x")}, name="execcmd")
            vm.hang_up()
            assert waiting.collect()[2] == 255
            daemon.wait_for_log("VM closed")
            with pytest.raises(Refused):
                runtime.hyper("ping")
            shim.close()
            daemon.wait_for_log("client gone", 2)
        daemon.wait_for_log("client gone", 3)
    daemon.wait_for_log("client gone", 4)
    told = trace(daemon)
    gone = "pod is gone: the agent closed the "
    told = [line.replace("I/O channel", "? channel") for line in told]
    told = [line.replace("control channel", "? channel") for line in told]
    assert sorted(told) == sorted(
        [
            "client connected: client=2",
            "VM registering: vm=pod client=2",
            "VM ready: vm=pod",
            "VM registered: vm=pod client=2",
            "tokens allocated: vm=pod session=1-3 count=3 client=2",
            "command refused: client=2 vm=pod command=REGISTER_VM"
            " reason=pod: container already registered",
            "client connected: client=3",
            "shim connected: vm=pod session=1 client=3",
            "client connected: client=4",
            "shim connected: vm=pod session=2 client=4",
            "process starting: vm=pod session=1 container=bad stdio=1 exec=False client=2",
            "process not started: vm=pod session=1 container=bad stdio=1 reason=ERROR"
            " received from VM agent, control msg received : no such rootfs",
            "command refused: client=2 vm=pod command=HYPER reason=ERROR"
            " received from VM agent, control msg received : no such rootfs",
            "command refused: client=3 vm=pod command=SIGNAL reason=invalid signal number 99",
            "process starting: vm=pod session=4 container=bad stdio=2 exec=True client=2",
            "process started: vm=pod session=4 container=bad stdio=2",
            "VM lost: vm=pod reason=the agent closed the ? channel",
            "VM closed: vm=pod reason=the agent closed the ? channel",
            f"process not started: vm=pod session=2 reason=VM {gone}? channel",
            "session freed: vm=pod session=3 reason=its VM is gone",
            "session freed: vm=pod session=4 container=bad stdio=2 reason=its VM is gone",
            f"command refused: client=2 vm=pod command=HYPER reason=VM {gone}? channel",
            "session freed: vm=pod session=1 container=bad stdio=1"
            " reason=its shim has taken everything",
            "client gone: client=3 reason=closed by the client",
            "session freed: vm=pod session=2 reason=its shim has taken everything",
            "client gone: client=4 reason=closed by the client",
            "client gone: client=2 reason=closed by the client",
        ]
    )


def test_a_vm_that_is_not_there(daemon, scripted, vm_id, tmp_path):
    with daemon.client() as runtime, pytest.raises(Refused):
        vm = scripted()
        vm.io_path = str(tmp_path / "nothing")
        runtime.register(vm, vm_id)
    log = daemon.wait_for_log("VM not registered")
    lines = [line_of(logfmtkv.parse(line)) for line in log.splitlines() if f"vm={vm_id}" in line]
    why = f"reason=cannot connect to the I/O channel {tmp_path}/nothing: No such file or directory"
    assert [line.partition(" client=")[0] for line in lines] == [
        f"VM registering: vm={vm_id}",
        f"VM not registered: vm={vm_id}",
    ]
    assert lines[1].endswith(why)


def test_an_end_before_the_start(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        shim.command(Command.SIGNAL, {"signalNumber": SIGTERM})
        assert shim.collect()[2] == 0
        assert not shim.frame().error
    log = daemon.wait_for_log("session freed")
    told = [line_of(logfmtkv.parse(line)).partition(":")[0] for line in log.splitlines()[1:]]
    steps = [each for each in told if each.startswith(("client att", "shim", "process", "session"))]
    assert steps == ["client attached", "shim connected", "process not started", "session freed"]
    assert '"a signal of its shim"' in log


def test_the_life_of_a_descriptor_of_version_1(daemon, scripted, vm_id):
    vm = scripted()
    threading.Thread(target=vm.accept).start()
    with Client1(daemon.path) as client:
        client.hello(vm, vm_id)
        client.allocate(1).close()
        daemon.wait_for_log("session freed")
        with pytest.raises(Refused):
            client.hyper("x")
        client.call("bye", {"containerId": vm_id})
    log = daemon.wait_for_log("client gone")
    lines = [line for line in log.splitlines() if "client=" in line or f"vm={vm_id}" in line]
    told = [line_of(logfmtkv.parse(line, strict=True)) for line in lines]
    number = told[0].partition("client=")[2]
    session = told[4].partition("session=")[2].split()[0]
    of_session = f"vm={vm_id} session={session} stdio=1"
    assert told == [
        f"client connected: client={number}",
        f"VM registering: vm={vm_id} client={number}",
        f"VM ready: vm={vm_id}",
        f"VM registered: vm={vm_id} client={number}",
        f"I/O descriptor opened: {of_session} client={number}",
        f"I/O descriptor closed: {of_session} reason=closed by the client",
        f"session freed: {of_session} reason=its descriptor is closed",
        f"request refused: client={number} vm={vm_id} reason=unknown command 'x'",
        f"VM unregistered: vm={vm_id} client={number}",
        f"VM closed: vm={vm_id} reason=the VM was unregistered",
        f"client gone: client={number} reason=closed by the client",
    ]


# ---- tokens


def test_no_token_is_ever_in_the_log(start_daemon, scripted, tmp_path):
    daemon = start_daemon("-shim-timeout", "0.05", "-process-timeout", "0.05")
    vm, other = scripted(), scripted()
    refused = []

    def refuse(call, *arguments, **more) -> None:
        with pytest.raises(Refused) as error:
            call(*arguments, **more)
        refused.append(str(error.value))

    with daemon.client() as runtime, daemon.client() as second:
        tokens = register(runtime, vm, "pod", 6)
        foreign = register(second, other, "pod2", 1)
        wrong = tokens[0][::-1].strip("=") + "="
        mistyped = [tokens[0].strip("="), tokens[0][1:], tokens[0].lower(), f"{tokens[0]} "]
        for token in (*mistyped, wrong):
            refuse(daemon.shim, token)
            refuse(runtime.hyper, "newcontainer", container("c", "x"), token)
        refuse(runtime.hyper, "newcontainer", container("c", "x"), foreign[0])
        refuse(runtime.hyper, "newcontainer", container("c", "x"), tokens[5])  # nobody has it
        refuse(runtime.hyper, "ping", None, tokens[0])
        refuse(runtime.hyper, tokens[0])
        refuse(runtime.attach, tokens[0])
        refuse(runtime.register, vm, tokens[0], console=tokens[1], streams=1 << 20)
        vm_at = type("Paths", (), {"ctl_path": tokens[0], "io_path": tokens[1]})
        refuse(runtime.register, vm_at, "nowhere")
        with daemon.shim(tokens[0]) as shim, daemon.shim(tokens[1]) as early:
            refuse(daemon.shim, tokens[0])
            refuse(early.call, Command.SIGNAL, {"signalNumber": 10})
            refuse(early.call, Command.CONNECT_SHIM, {"token": tokens[2]})
            data = container("box", "x", terminal=True, envs=[{"env": "A", "value": tokens[3]}])
            stdio = start(vm, runtime, data, tokens[0])
            refuse(runtime.hyper, "newcontainer", data, tokens[0])
            runtime.hyper_command("newcontainer", container("c", "x"), tokens[1])
            vm.refuse(f"what is {tokens[1]}?".encode())
            with pytest.raises(Refused):
                runtime.answer()
            vm.send(Code.PROCESS_ASYNC_EVENT, json.dumps({"token": tokens[1]}).encode())
            vm.output(stdio, tokens[0].encode())
            vm.exit(stdio, 0)
            shim.collect()
            refuse(runtime.hyper, "newcontainer", data, tokens[0])
            os.kill(daemon.pid, signal.SIGUSR1)
            daemon.wait_for_log("greenlets")
        for source in ("runtime", tokens[4]):
            entry = {"source": source, "level": "info", "msg": f"cc-shim -t {tokens[4]} -u x"}
            with daemon.client() as client:
                entry["containerId"] = tokens[3]
                client.send(Type.STREAM, Stream.LOG, json.dumps(entry).encode())
        daemon.wait_for_log("unknown log source")
        with Client1(daemon.path) as old:
            refuse(old.call, tokens[0])
        runtime.unregister("pod")
    daemon.wait_for_log("client gone", daemon.log.count("client connected"))
    assert daemon.stop() == 0
    secrets = [*tokens, *foreign, *mistyped, wrong]
    assert sum(any(secret in text for secret in secrets) for text in refused) > 15
    log = daemon.log
    for secret in secrets:
        # Nor a good part of one.
        assert not any(secret[at : at + 12] in log for at in range(len(secret) - 12)), secret
    assert log.count("<token>") > 15
