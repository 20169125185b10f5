"""Steps that many tests take with a client and a scripted VM."""

from __future__ import annotations

import json
import struct
import threading
from contextlib import contextmanager

from ccproxy_lib.wire.ctl import Code
from tests.e2e.harness import Client, ScriptedVm, container

MIB = 1 << 20


def hung_up(client: Client) -> bool:
    """Whether nothing but the end of the connection comes."""
    return client.frame() is None


def start(vm, runtime, name="c", token=None, **more):
    """Start a process in the scripted VM; return its numbers."""
    runtime.hyper_command("newcontainer", container(name, "x", **more), *([token] if token else []))
    process = json.loads(vm.ack().payload)["process"]
    assert runtime.answer() == b""
    return process["stdio"], process.get("stderr")


def frame_bytes(version=2, words=3, flags=0, opcode=0, length=0):
    return struct.pack(">HB3xBBI", version, words, flags, opcode, length)


def assert_alive(vm, runtime):
    """The VM and the runtime still understand each other."""
    runtime.hyper_command("ping")
    assert vm.ack(b"alive").code == Code.PING
    assert runtime.answer() == b"alive"


def accept_soon(vm: ScriptedVm, ready: bool = True) -> threading.Thread:
    accepting = threading.Thread(target=vm.accept, args=(ready,))
    accepting.start()
    return accepting


def one_session(daemon, runtime, vm, vm_id):
    """A shim whose process runs; returns token, shim, stdio."""
    (token,) = runtime.attach(vm_id, 1)
    shim = daemon.shim(token)
    stdio, _ = start(vm, runtime, token[:8], token)
    return token, shim, stdio


def flood(vm, stdio, size, block=1 << 16):
    """Have the VM put out so much; returns it."""
    data = bytes(range(256)) * (block // 256)
    for _ in range(size // block):
        vm.output(stdio, data)
    return data * (size // block)


@contextmanager
def running(daemon, runtime, vm, vm_id: str):
    """A process with stream number 1 in a scripted VM, and its shim."""
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim, daemon.client() as starter:
        starter.attach(vm_id)
        starting = threading.Thread(target=vm.ack)
        starting.start()
        starter.hyper("newcontainer", container("box", "cat"), token)
        starting.join()
        yield shim
