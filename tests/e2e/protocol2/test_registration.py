"""RegisterVM, AttachVM and UnregisterVM as clients see them."""

from __future__ import annotations

import json
import re
import socket
import threading

import pytest

from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import Refused


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
