"""The client library against the real daemon and the sandbox agent."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from ccproxy_lib.client import Client, ProxyError, Shim, events
from ccproxy_lib.wire.ctl import Code
from tests.e2e.harness import PATIENCE_S, TOP, container, process, wait_until
from tests.e2e.relay import Relay

# Imports all of the library, and then tells what came along.
IMPORTS = """
import pkgutil, sys, importlib
import ccproxy_lib.client
for module in pkgutil.iter_modules(ccproxy_lib.client.__path__, "ccproxy_lib.client."):
    importlib.import_module(module.name)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"gevent", "greenlet", "ujson"}))
"""
# A greenlet goes on while another one waits for output and a third one for events: the
# process ends only when the first has written what it waits for.
PATCHED = """
import sys
import gevent
from gevent import monkey
monkey.patch_{what}()
from ccproxy_lib.client import Client, Shim

path, vm, token = sys.argv[1:]
with Client(path) as client, Client(path) as watcher:
    client.attach_vm(vm)
    stream = watcher.events(vm)
    seen = gevent.spawn(lambda: [type(next(stream)).__name__ for _ in range(4)])
    with Shim(path, token) as shim:
        script = "head -c 100000 /dev/zero; read line; exit 3"
        data = {{"container": "c", "process": {{"args": ["sh", "-c", script], "terminal": False}}}}
        client.hyper("execcmd", data, token)
        got = gevent.spawn(lambda: len(shim.stdout.read()))
        def go_on():
            gevent.sleep(0.02)
            shim.stdin.write(b"go on\\n")
        gevent.spawn(go_on)
        {others}
        print(got.get(), shim.wait())
    print(*sorted(seen.get()))
"""


@pytest.fixture
def client(daemon):
    with Client(f"unix://{daemon.path}") as client:
        yield client


@pytest.mark.heavy
def test_it_needs_no_gevent():
    result = subprocess.run(
        [sys.executable, "-c", IMPORTS], cwd=TOP, capture_output=True, check=True
    )
    assert result.stdout == b"[]\n"


@pytest.mark.parametrize(
    ("what", "others"),
    [
        ("socket", "pass"),
        ("all", "assert gevent.spawn(shim.wait, 30).get() == 3"),
    ],
)
def test_it_is_cooperative_where_sockets_are_patched(client, vm, vm_id, what, others):
    with client.registered(vm_id, vm.ctl_path, vm.io_path, 1) as (token,):
        client.hyper("newcontainer", container("c", "sleep", "1000"))
        result = subprocess.run(
            [sys.executable, "-c", PATCHED.format(what=what, others=others)]
            + [client.address, vm_id, token],
            cwd=TOP,
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE_S,
            check=False,
        )
        assert result.stderr == ""
        seen = "ProcessEnded ProcessStarted ShimConnected ShimDisconnected"
        assert result.stdout == f"100000 3\n{seen}\n"
        vm.stop()


def test_a_processs_life_in_objects(client, vm, vm_id):
    stream = client.events(vm_id)
    (token,) = client.register_vm(vm_id, vm.ctl_path, vm.io_path, 1)
    with Shim(client.address, token) as shim:
        client.hyper("newcontainer", container("c", "sh", "-c", "cat; echo e >&2; exit 3"), token)
        assert client.ping() < PATIENCE_S
        assert shim.communicate(b"in", PATIENCE_S) == (b"in", b"e\n", 3)
    (described,) = client.status(vm_id)["vms"]
    assert described["id"] == vm_id
    assert "sessions" not in client.status(vm_id, sessions=False)["vms"][0]
    client.unregister_vm(vm_id)
    seen = [next(stream) for _ in range(6)]
    assert [type(event) for event in seen] == [
        events.VmRegistered,
        events.ShimConnected,
        events.ProcessStarted,
        events.ProcessEnded,
        events.ShimDisconnected,
        events.VmUnregistered,
    ]
    assert all(event.vm == vm_id for event in seen)
    assert isinstance(seen[3], events.ProcessEnded)
    assert (seen[3].container, seen[3].status) == ("c", 3)


def test_the_loss_of_a_vm(client, vm, vm_id):
    client.register_vm(vm_id, vm.ctl_path, vm.io_path)
    seen: list[events.Event] = []
    lost = threading.Event()

    def note(event: events.Event) -> None:
        seen.append(event)
        lost.set()

    watcher = client.watch(note, vm_id)
    vm.stop()
    assert lost.wait(PATIENCE_S)
    client.close()
    watcher.join(PATIENCE_S)
    assert isinstance(seen[0], events.VmLost)
    assert seen[0].reason


def test_an_event_of_the_agent(client, registered, vm_id):
    vm, _ = registered
    stream = client.events(vm_id)
    vm.send(Code.PROCESS_ASYNC_EVENT, b'{"news":1}')
    event = next(stream)
    assert (type(event), event.data) == (events.AgentEvent, '{"news":1}')


def test_calls_of_several_threads_while_events_come(client, vm, vm_id):
    client.register_vm(vm_id, vm.ctl_path, vm.io_path)
    client.hyper("newcontainer", container("c", "sleep", "1000"))
    stream = client.events(vm_id)
    failed: list[object] = []

    def work(number: int) -> None:
        try:
            for _ in range(5):
                client.hyper("execcmd", {"container": "c", "process": process("true")})
                names = client.hyper("pscontainer", {"container": "c"})
                assert b"sleep" in names
                with pytest.raises(ProxyError, match=f"unknown command 'nope{number}'"):
                    client.hyper(f"nope{number}")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    ended = 0
    while ended < 20:
        ended += isinstance(next(stream), events.ProcessEnded)
    for thread in threads:
        thread.join()
    assert failed == []
    client.unregister_vm(vm_id)
    vm.stop()


def test_log_entries_and_levels(client, daemon, registered, vm_id):
    client.log("warn", "from a test", container_id="c9")
    daemon.wait_for_log("from a test")
    client.log_control("debug", vm_id)
    client.log_control("default", vm_id)
    with pytest.raises(ProxyError, match="unknown log level"):
        client.log_control("loud")


def test_a_shim_comes_back_and_loses_nothing(client, daemon, vm, vm_id, tmp_path):
    """Output that came before, while it was away, and behind that; stdin before and behind."""
    relay = Relay(tmp_path, daemon.path)
    (token,) = client.register_vm(vm_id, vm.ctl_path, vm.io_path, 1)
    script = (
        "read line; echo $line; seq 1 50000;"
        f"until test -e {tmp_path}/away; do sleep 0.01; done;"
        "seq 50001 300000; read line; echo $line; exit 6"
    )
    first = b"one\n" + numbers(1, 50000)
    with Shim(relay.path, token, reconnect_s=PATIENCE_S) as shim:
        client.hyper("newcontainer", container("c", "sh", "-c", script), token)
        shim.stdin.write(b"one\n")
        assert shim.stdout.read(len(first)) == first
        relay.cut()
        (tmp_path / "away").touch()
        wait_until(lambda: buffered(client, vm_id) > 1 << 20, "the proxy keeps output")
        relay.open()
        second = numbers(50001, 300000)
        assert shim.stdout.read(len(second)) == second
        shim.stdin.write(b"two\n")
        assert shim.stdout.read() == b"two\n"
        assert shim.wait() == 6
    relay.cut()
    client.unregister_vm(vm_id)
    vm.stop()


def numbers(first: int, last: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(first, last + 1))


def buffered(client: Client, vm_id: str) -> int:
    return client.status(vm_id)["vms"][0]["bufferedBytes"]
