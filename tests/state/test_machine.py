"""VMs and sessions through random lives, with what must always hold checked after each step."""

from __future__ import annotations

import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ccproxy_lib.errors import CommandError
from ccproxy_lib.host.tokens import new_token
from ccproxy_lib.state.input import Input
from ccproxy_lib.state.limits import Limits
from ccproxy_lib.state.packets import PacketOutput
from ccproxy_lib.state.registry import Registry
from ccproxy_lib.state.session import (
    BEFORE_PROCESS,
    OVER,
    TRANSITIONS,
    WITHOUT_SHIM,
    Event,
    Session,
    State,
)
from ccproxy_lib.state.vm import Vm
from ccproxy_lib.wire.frames import Stream

IDS = ("vm-1", "vm-2", "vm-3")
LIMITS = Limits(max_vms=2, max_tokens=5, token_ttl_s=100.0, orphan_ttl_s=200.0)
SELDOM = st.integers(0, 9).map(lambda number: number == 7)
OFTEN = SELDOM.map(lambda seldom: not seldom)
DATA = memoryview(b"output")


class Shim:
    """Stands for the connection of a shim."""

    def deliver(self) -> None:
        raise AssertionError("the state itself delivers nothing")

    def finish(self, timeout_s: float | None) -> None:
        raise AssertionError("the state itself waits for nothing")


def of_a_vm(accepts):
    """Make a rule of a step that is for one of the VMs that ``accepts(machine, vm)`` takes."""
    return _of(lambda machine: machine.all_vms, accepts)


def of_a_session(accepts):
    """Make a rule of a step that is for one of the sessions that ``accepts(machine, it)`` takes."""
    return _of(lambda machine: machine.all_sessions, accepts)


def _of(all_of, accepts):
    def those(machine):
        return [each for each in all_of(machine) if accepts(machine, each)]

    def decorate(step):
        def run(machine, data):
            step(machine, data.draw(st.sampled_from(those(machine))), data.draw)

        run.__name__ = step.__name__
        return precondition(those)(rule(data=st.data())(run))

    return decorate


class Machine(RuleBasedStateMachine):
    """Does to the state what the service does, in any order that its peers can bring about."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry(new_token, LIMITS)
        self.registered: dict[str, Vm] = {}
        # Those whose channels are open: registered ones, and others until they are idle.
        self.alive: set[Vm] = set()
        self.all_vms: list[Vm] = []
        self.all_sessions: list[Session] = []
        # Whose start command the agent has not answered yet.
        self.unanswered: set[Session] = set()
        self.given_numbers: dict[Vm, set[int]] = {}

    def is_registered(self, vm: Vm) -> bool:
        return self.registered.get(vm.id) is vm

    # ---- VMs

    @initialize()
    def begin_with_a_vm(self):
        self.register(IDS[0], True)
        self.all_sessions += map(self.registry.session, self.registry.allocate(self.all_vms[0], 3))

    @rule(vm_id=st.sampled_from(IDS), succeeds=st.booleans())
    def register(self, vm_id, succeeds):
        if vm_id in self.registered or len(self.registered) >= LIMITS.max_vms:
            with pytest.raises(CommandError):
                self.registry.reserve(vm_id)
            return
        vm = self.registry.reserve(vm_id)
        with pytest.raises(CommandError):
            self.registry.find(vm_id)  # not before it is published
        with pytest.raises(CommandError):
            self.registry.reserve(vm_id)
        if not succeeds:
            assert self.registry.unregister(vm) == []
            return
        self.registry.publish(vm)
        self.registered[vm_id] = vm
        self.alive.add(vm)
        self.all_vms.append(vm)
        self.given_numbers[vm] = set()

    @of_a_vm(lambda self, vm: vm in self.alive)
    def unregister(self, vm, draw):
        """As UnregisterVM: what never started ends, what runs goes on."""
        if not draw(SELDOM):
            return
        unstarted = self.registry.unregister(vm)
        assert set(unstarted) == {each for each in vm.sessions if each.state in BEFORE_PROCESS}
        self._forget_id(vm)
        for session in unstarted:
            if session.sink is None:
                self.registry.free(session)
            else:
                session.end(255)

    @of_a_vm(lambda self, vm: vm in self.alive)
    def lose_vm(self, vm, draw):
        """As the end of its channels."""
        if not draw(SELDOM):
            return
        self.alive.discard(vm)
        self.registry.unregister(vm)
        self._forget_id(vm)
        for session in tuple(vm.sessions):
            if session.sink is None:
                self.registry.free(session)
            elif session.state not in OVER:
                self._process_over(session, 255)

    def _forget_id(self, vm: Vm) -> None:
        if self.is_registered(vm):
            del self.registered[vm.id]

    # ---- new sessions

    @of_a_vm(is_registered)
    def allocate(self, vm, draw):
        count = draw(st.integers(0, 3))
        if len(vm.sessions) + count > LIMITS.max_tokens:
            with pytest.raises(CommandError):
                self.registry.allocate(vm, count)
            return
        tokens = self.registry.allocate(vm, count)
        assert len(set(tokens)) == count
        self.all_sessions += map(self.registry.session, tokens)

    @of_a_vm(is_registered)
    def start_without_token(self, vm, draw):
        if not draw(SELDOM):
            return
        session = self.registry.allocate_unclaimed(vm)
        self.all_sessions.append(session)
        self._start(session, draw(st.booleans()))

    @of_a_vm(is_registered)
    def allocate_descriptor(self, vm, draw):
        if not draw(SELDOM):
            return
        streams = draw(st.integers(1, 2))
        if len(vm.sessions) >= LIMITS.max_tokens:
            with pytest.raises(CommandError):
                self.registry.allocate_descriptor(vm, streams, PacketOutput)
            return
        session = self.registry.allocate_descriptor(vm, streams, PacketOutput)
        session.sink = Shim()
        self._note_numbers(session)
        self.all_sessions.append(session)

    # ---- shims

    @of_a_session(lambda self, it: it.token and it.can(Event.CLAIM) and it.vm in self.alive)
    def claim(self, session, draw):
        assert self.registry.session(session.token) is session
        assert session.sink is None
        session.claim()
        session.sink = Shim()

    @of_a_session(lambda self, it: it.sink)
    def lose(self, session, draw):
        """As a shim that is gone without DisconnectShim."""
        session.sink = None
        all_read = draw(st.booleans())
        done = session.state in OVER and all_read
        if done or session.vm not in self.alive or not session.token:
            self.registry.free(session)
        elif session.can(Event.LOSE):
            session.apply(Event.LOSE)

    @of_a_session(lambda self, it: it.sink)
    def disconnect(self, session, draw):
        if not draw(SELDOM):
            return
        session.sink = None
        assert self.registry.free(session)
        assert not self.registry.free(session)  # harmless if repeated

    @of_a_session(lambda self, it: it.state is State.CLAIMED and it.sink)
    def kill_before_start(self, session, draw):
        if not draw(SELDOM):
            return
        assert session.end(0)
        assert session.state is State.ENDED

    # ---- processes

    @of_a_session(lambda self, it: it.state is State.CLAIMED and self.is_registered(it.vm))
    def start(self, session, draw):
        self._start(session, draw(st.booleans()))

    def _start(self, session: Session, terminal: bool) -> None:
        session.apply(Event.START)
        session.vm.route(session, terminal)
        session.input = Input(session.stdio)
        self.unanswered.add(session)
        self._note_numbers(session)

    def _note_numbers(self, session: Session) -> None:
        given = {session.stdio, session.stderr} - {0}
        assert not given & self.given_numbers[session.vm], "a stream number twice"
        self.given_numbers[session.vm] |= given

    @of_a_session(lambda self, it: it in self.unanswered)
    def answer_start(self, session, draw):
        """The agent's answer may come before and after the end, and after DisconnectShim."""
        self.unanswered.remove(session)
        if draw(OFTEN):
            session.apply(Event.STARTED)
        else:
            self._process_over(session, 255)

    @of_a_session(lambda self, it: it.stdio in it.vm.routes and it.vm in self.alive)
    def exit(self, session, draw):
        self._process_over(session, draw(st.integers(0, 255)))

    def _process_over(self, session: Session, status: int) -> None:
        session.vm.unroute(session)
        if session.end(status):
            assert session.exit_status == status
            assert not session.end(0)
        if not session.token and session.sink is None:
            self.registry.free(session)

    @of_a_session(lambda self, it: True)
    def output(self, session, draw):
        session.output.add(Stream.STDOUT, DATA)
        session.output.keep_unsent()

    # ---- time

    @rule(after_s=st.sampled_from([0.0, 50.0, 150.0, 1000.0]), seldom=SELDOM)
    def expire(self, after_s, seldom):
        """As the collection of garbage, with the clock turned forward."""
        if after_s > LIMITS.token_ttl_s and not seldom:
            return
        for session in self.registry.expired(time.monotonic() + after_s):
            assert session.state in {State.ALLOCATED, State.ENDED_DETACHED}
            assert session.sink is None
            self.registry.free(session)
        if after_s > LIMITS.orphan_ttl_s:
            left = {each.state for each in self.all_sessions if each.token}
            assert not left & {State.ALLOCATED, State.ENDED_DETACHED}

    # ---- what the table lacks

    @of_a_session(lambda self, it: True)
    def refuse(self, session, draw):
        before = session.state
        for event in set(Event) - set(TRANSITIONS[before]):
            with pytest.raises(CommandError):
                session.apply(event)
            assert session.state is before

    # ---- what always holds

    @invariant()
    def no_token_is_orphaned(self):
        known = [each for each in self.all_sessions if each.token and each.state is not State.FREED]
        assert self.registry.tokens == len(known)
        for session in known:
            assert self.registry.session(session.token) is session
            assert session in session.vm.sessions

    @invariant()
    def sessions_of_vms_are_those_that_are_not_freed(self):
        for vm in self.all_vms:
            mine = {each for each in self.all_sessions if each.vm is vm}
            assert vm.sessions == {each for each in mine if each.state is not State.FREED}
            assert len(vm.sessions) <= LIMITS.max_tokens + len(
                [each for each in vm.sessions if not each.token]
            )

    @invariant()
    def freed_sessions_are_nowhere_and_keep_nothing(self):
        for session in self.all_sessions:
            if session.state is State.FREED:
                assert session not in session.vm.sessions
                assert not session.can(Event.FREE)
                session.output.add(Stream.STDERR, DATA)
                session.output.keep_unsent()
                assert session.output.kept_bytes == 0
                if session.token:
                    with pytest.raises(CommandError):
                        self.registry.session(session.token)

    @invariant()
    def routes_lead_to_sessions_with_numbers(self):
        for vm in self.all_vms:
            for number, route in vm.routes.items():
                session = route.session
                assert session.vm is vm
                assert number == (
                    session.stdio if route.stream is Stream.STDOUT else session.stderr
                )
                assert number < vm.next_number
                assert session.state not in BEFORE_PROCESS
                assert {session.stdio, session.stderr or session.stdio} <= set(vm.routes)

    @invariant()
    def what_is_over_has_no_route(self):
        for session in self.all_sessions:
            if session.state in {State.ENDED, State.ENDED_DETACHED}:
                assert session.stdio not in session.vm.routes

    @invariant()
    def running_sessions_have_a_route(self):
        for session in self.all_sessions:
            if session.state in {State.STARTING, State.RUNNING, State.DETACHED}:
                assert session.vm.routes[session.stdio].session is session

    @invariant()
    def a_session_has_a_sink_unless_it_waits_for_a_shim(self):
        for session in self.all_sessions:
            if session.token and session.state is not State.FREED:
                assert (session.sink is None) == (session.state in WITHOUT_SHIM)

    @invariant()
    def counts_add_up(self):
        assert set(self.registry.vms) == set(self.registered.values())
        for vm_id in IDS:
            if vm_id in self.registered:
                assert self.registry.find(vm_id) is self.registered[vm_id]
            else:
                with pytest.raises(CommandError):
                    self.registry.find(vm_id)

    @invariant()
    def ids_of_unregistered_vms_are_free(self):
        if len(self.registered) < LIMITS.max_vms:
            for vm_id in set(IDS) - set(self.registered):
                assert self.registry.unregister(self.registry.reserve(vm_id)) == []

    @invariant()
    def what_has_a_process_never_expires(self):
        ends = {State.ALLOCATED, State.ENDED_DETACHED}
        for session in self.registry.expired(float("inf")):
            assert session.state in ends
            assert session.stdio not in session.vm.routes


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=3 * settings().max_examples, stateful_step_count=50)
