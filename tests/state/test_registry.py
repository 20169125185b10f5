"""The registry: which ids are taken, which tokens are known, and in what words it refuses."""

from __future__ import annotations

import base64

import pytest

from ccproxy_lib.errors import CommandError
from ccproxy_lib.host.tokens import new_token
from ccproxy_lib.state.limits import Limits
from ccproxy_lib.state.output import Output
from ccproxy_lib.state.registry import Registry
from ccproxy_lib.state.session import Event, Session, State
from ccproxy_lib.state.vm import Vm
from ccproxy_lib.wire.frames import Stream


def registered(registry: Registry, vm_id: str = "vm1") -> Vm:
    vm = registry.reserve(vm_id)
    registry.publish(vm)
    return vm


def allocated(registry: Registry, vm: Vm) -> Session:
    (token,) = registry.allocate(vm, 1)
    return registry.session(token)


def run(session: Session) -> Session:
    for event in (Event.CLAIM, Event.START, Event.STARTED):
        session.apply(event)
    return session


# ---- VMs


def test_a_published_vm_is_found() -> None:
    registry = Registry(new_token)
    vm = registered(registry)
    assert vm.id == "vm1"
    assert registry.find("vm1") is vm
    assert registry.vms == (vm,)


def test_a_reserved_vm_is_not_found_yet_and_its_id_is_taken() -> None:
    registry = Registry(new_token)
    registry.reserve("c1")
    with pytest.raises(CommandError, match="^unknown containerID: c1$"):
        registry.find("c1")
    with pytest.raises(CommandError, match="^c1: container already registered$"):
        registry.reserve("c1")
    assert registry.vms == ()


def test_registering_an_id_twice_leaves_the_first_untouched() -> None:
    registry = Registry(new_token)
    vm = registered(registry, "c1")
    with pytest.raises(CommandError, match="^c1: container already registered$"):
        registry.reserve("c1")
    assert registry.find("c1") is vm


def test_an_unknown_vm_is_not_found() -> None:
    registry = Registry(new_token)
    registered(registry, "c1")
    with pytest.raises(CommandError, match="^unknown containerID: C1$"):
        registry.find("C1")


def test_an_unregistered_vm_is_unknown_and_its_id_is_free() -> None:
    registry = Registry(new_token)
    old = registered(registry)
    assert registry.unregister(old) == []
    with pytest.raises(CommandError, match="^unknown containerID: vm1$"):
        registry.find("vm1")
    assert registry.vms == ()
    assert registered(registry) is not old


def test_a_reservation_can_be_given_up() -> None:
    registry = Registry(new_token)
    registry.unregister(registry.reserve("vm1"))
    registry.reserve("vm1")


def test_unregistering_a_vm_again_leaves_its_successor_alone() -> None:
    registry = Registry(new_token)
    old = registered(registry)
    registry.unregister(old)
    new = registered(registry)
    registry.unregister(old)
    assert registry.find("vm1") is new


def test_unregistering_hands_back_the_sessions_that_have_no_process() -> None:
    registry = Registry(new_token)
    vm, other = registered(registry), registered(registry, "vm2")
    unclaimed, claimed, running = (allocated(registry, vm) for _ in range(3))
    allocated(registry, other)
    claimed.apply(Event.CLAIM)
    run(running)
    assert set(registry.unregister(vm)) == {unclaimed, claimed}
    assert registry.session(running.token) is running, "a running session goes on"
    for session in (unclaimed, claimed):
        registry.free(session)
    assert registry.unregister(vm) == []


def test_there_is_a_limit_to_vms() -> None:
    registry = Registry(new_token, Limits(max_vms=2))
    first = registered(registry, "vm1")
    registry.reserve("vm2")
    with pytest.raises(CommandError, match="2 VMs .* no more"):
        registry.reserve("vm3")
    registry.unregister(first)
    registry.reserve("vm3")


# ---- tokens


def test_a_token_is_32_bytes_in_padded_base64url() -> None:
    registry = Registry(new_token)
    for token in registry.allocate(registered(registry), 50):
        assert len(token) == 44
        assert token.endswith("=")
        decoded = base64.b64decode(token, altchars=b"-_", validate=True)
        assert len(decoded) == 32
        assert base64.urlsafe_b64encode(decoded).decode() == token


def test_no_two_tokens_are_alike() -> None:
    registry = Registry(new_token)
    tokens = registry.allocate(registered(registry), 500)
    assert len(set(tokens)) == registry.tokens == 500
    # Random in each place: 500 draws of 64 characters leave hardly any out.
    assert all(
        len(set(place)) > 40 for place in zip(*(token[:42] for token in tokens), strict=True)
    )


def test_a_token_leads_to_its_session() -> None:
    registry = Registry(new_token)
    vm = registered(registry)
    first, second = registry.allocate(vm, 2)
    assert registry.session(first).token == first
    assert registry.session(second).token == second
    assert registry.session(first).vm is vm
    assert registry.session(first).state is State.ALLOCATED
    assert vm.sessions == {registry.session(first), registry.session(second)}


def test_no_tokens_may_be_asked_for() -> None:
    registry = Registry(new_token)
    vm = registered(registry)
    assert registry.allocate(vm, 0) == []
    assert not vm.sessions


def test_an_unknown_token_leads_nowhere() -> None:
    registry = Registry(new_token)
    for token in ("X", ""):
        with pytest.raises(CommandError, match=f"^unknown token: {token}$"):
            registry.session(token)


def test_a_token_is_forgotten_with_its_session() -> None:
    registry = Registry(new_token)
    vm = registered(registry)
    session = run(allocated(registry, vm))
    assert registry.free(session)
    assert session.state is State.FREED
    assert registry.tokens == 0 and not vm.sessions
    with pytest.raises(CommandError, match=f"^unknown token: {session.token}$"):
        registry.session(session.token)
    assert not registry.free(session), "it has happened already"


def test_there_is_a_limit_to_tokens_of_a_vm_and_too_many_give_none() -> None:
    registry = Registry(new_token, Limits(max_tokens=3))
    vm, other = registered(registry), registered(registry, "vm2")
    tokens = registry.allocate(vm, 2)
    for count in (2, 1 << 62):
        with pytest.raises(CommandError, match=f"{count} more are refused"):
            registry.allocate(vm, count)
    assert registry.tokens == 2
    registry.allocate(vm, 1)
    registry.allocate(other, 3)
    registry.free(registry.session(tokens[0]))
    registry.allocate(vm, 1)


def test_a_process_without_a_token_has_a_session_that_nobody_finds() -> None:
    registry = Registry(new_token)
    vm = registered(registry)
    first, second = registry.allocate_unclaimed(vm), registry.allocate_unclaimed(vm)
    assert registry.tokens == 0
    assert vm.sessions == {first, second}
    assert first.state is State.CLAIMED, "it waits for no shim"
    first.output.add(Stream.STDOUT, memoryview(b"unwanted"))
    first.output.keep_unsent()
    first.apply(Event.START)
    assert first.end(0)
    assert not first.output.queue, "its output is discarded, and its exit, too"
    assert registry.free(first)
    assert vm.sessions == {second}


def test_outputs_are_made_as_the_caller_wants_them() -> None:
    outputs: list[Output] = []

    def new_output() -> Output:
        outputs.append(Output(buffer_bytes=1))
        return outputs[-1]

    registry = Registry(new_token, new_output=new_output)
    vm = registered(registry)
    sessions = [registry.session(token) for token in registry.allocate(vm, 2)]
    assert [session.output for session in sessions] == outputs


# ---- sessions of protocol 1


def test_a_descriptor_has_a_running_session_whose_numbers_the_client_knows() -> None:
    registry, bases = Registry(new_token), []

    def new_output(io_base: int) -> Output:
        bases.append(io_base)
        return Output()

    vm = registered(registry)
    both = registry.allocate_descriptor(vm, 2, new_output)
    terminal = registry.allocate_descriptor(vm, 1, new_output)
    assert bases == [both.stdio, terminal.stdio] == [1, 3]
    assert (both.stderr, terminal.stderr) == (2, 0)
    for session in (both, terminal):
        assert session.state is State.RUNNING
        assert session.input is not None and session.input.seq == session.stdio
        assert vm.routes[session.stdio].session is session
    assert vm.sessions == {both, terminal}
    assert registry.tokens == 0
    assert registry.unregister(vm) == [], "they go on"


def test_the_limit_to_tokens_of_a_vm_counts_descriptors_too() -> None:
    registry = Registry(new_token, Limits(max_tokens=2))
    vm = registered(registry)
    registry.allocate(vm, 1)
    registry.allocate_descriptor(vm, 1, lambda io_base: Output())
    number = vm.next_number
    with pytest.raises(CommandError, match="no more are allowed"):
        registry.allocate_descriptor(vm, 1, lambda io_base: Output())
    assert vm.next_number == number, "what is refused uses no number up"


# ---- what nobody comes for


def test_tokens_and_orphans_expire_and_nothing_else_does() -> None:
    registry = Registry(new_token, Limits(token_ttl_s=10.0, orphan_ttl_s=100.0))
    vm = registered(registry)
    unclaimed, claimed, running, detached, ended, orphan = (
        allocated(registry, vm) for _ in range(6)
    )
    claimed.apply(Event.CLAIM)
    for session in (running, detached, ended, orphan):
        run(session)
    detached.apply(Event.LOSE)
    for session in (ended, orphan):
        session.end(0)
    orphan.apply(Event.LOSE)
    # What is added to the clock's time may be rounded; to this it is not.
    for session in vm.sessions:
        session.since_s = 1000.0
    assert registry.expired(1009.5) == []
    assert registry.expired(1010.0) == [unclaimed]
    assert registry.expired(1099.5) == [unclaimed]
    assert set(registry.expired(1100.0)) == {unclaimed, orphan}
    assert set(registry.expired(1e9)) == {unclaimed, orphan}
    registry.free(unclaimed)
    registry.free(orphan)
    assert registry.expired(1e9) == []


def test_tokens_are_unclaimed_until_a_shim_comes() -> None:
    registry = Registry(new_token)
    vm = registry.reserve("vm1")
    token, _ = registry.allocate(vm, 2)
    assert registry.unclaimed_tokens == 2
    registry.session(token).claim()
    assert registry.unclaimed_tokens == 1
