"""The commands of protocol 2: what each one does, and for whom.

A handler gets the connection and the command's payload and returns the answer's
payload, or None if it has answered or will.  It raises CommandError to refuse.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from ccproxy_lib.errors import CommandError, DeadlineMissed, LimitReached
from ccproxy_lib.host import logs
from ccproxy_lib.host.logs import tags
from ccproxy_lib.service.answers import answer, answerer
from ccproxy_lib.service.connection import Connection
from ccproxy_lib.service.shim import Shim
from ccproxy_lib.service.status import status
from ccproxy_lib.service.traces import free, session_tags
from ccproxy_lib.service.vm_link import VmLink
from ccproxy_lib.service.waiting import wait_until
from ccproxy_lib.state.session import BEFORE_PROCESS, WITHOUT_SHIM, Session
from ccproxy_lib.wire import ctl, payloads
from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command
from ccproxy_lib.wire.process import parse_process_start

Payload = bytes | memoryview
Handler = Callable[[Connection, Payload], bytes | None]

log = logging.getLogger(__name__)


def register_vm(client: Connection, payload: Payload) -> bytes:
    """Connect to a VM, make it known, and attach the client to it."""
    _refuse_shim(client)
    request = payloads.parse_register_vm(payload)
    limit = client.proxy.limits.max_tokens
    if request.streams > limit:  # before there is a VM to be undone
        raise LimitReached(
            f"VM {request.vm_id} may have {limit} tokens, so {request.streams} are refused",
            "max-tokens",
        )
    link = client.proxy.register(request, client.id)
    client.link = link
    return _allocate(client, link, request.streams)


def attach_vm(client: Connection, payload: Payload) -> bytes:
    """Attach the client to a registered VM."""
    _refuse_shim(client)
    request = payloads.parse_attach_vm(payload)
    client.link = client.proxy.find(request.vm_id)
    log.info("client attached", extra=tags(vm=request.vm_id, client=client.id))
    return _allocate(client, client.link, request.streams)


def unregister_vm(client: Connection, payload: Payload) -> bytes:
    """Make a VM unknown; its running sessions go on."""
    _refuse_shim(client)
    vm_id = payloads.parse_unregister_vm(payload)
    client.proxy.unregister(vm_id, client.id)
    if client.link is not None and client.link.vm.id == vm_id:
        client.link = None
    return b""


def hyper(client: Connection, payload: Payload) -> bytes:
    """Pass a command to the agent of the client's VM; start a process with its token."""
    _refuse_shim(client)
    if client.link is None:
        raise CommandError("client not attached to a vm")
    request = payloads.parse_hyper(payload)
    code = ctl.COMMANDS.get(request.name)
    if code is None:
        raise CommandError(f"unknown command '{request.name}'")
    if code in (Code.NEW_CONTAINER, Code.EXEC_CMD):
        return _start_process(client, client.link, code, request)
    if request.tokens:
        given = len(request.tokens)
        raise CommandError(f"{request.name} doesn't need tokens but {given} token(s) were given")
    return client.link.command(code, request.data.encode())


def connect_shim(client: Connection, payload: Payload) -> None:
    """Make the connection the shim of a token's session."""
    _refuse_shim(client)
    token = payloads.parse_connect_shim(payload)
    proxy = client.proxy
    session = proxy.registry.session(token)
    proxy.wait_for_dead_holder(session)
    again = session.state in WITHOUT_SHIM and session.state not in BEFORE_PROCESS
    client.become_shim(Shim(session, proxy.link_of(session), proxy, client.stream))
    # The answer goes out before any output that has been kept for this shim.
    answer(client, Command.CONNECT_SHIM)
    client.outbox.adopt(session.output)
    what = "shim reconnected" if again else "shim connected"
    log.info(what, extra=session_tags(session, client=client.id))
    proxy.events.tell_of("shim-connected", session)


def disconnect_shim(client: Connection, payload: Payload) -> None:
    """Let a shim go, its token and session with it; not answered."""
    _shim_of(client)
    client.disconnect()


def signal(client: Connection, payload: Payload) -> None:
    """Send a signal, or a terminal's new size, to the shim's process."""
    shim = _shim_of(client)
    shim.signal(payloads.parse_signal(payload), answerer(client, Command.SIGNAL))


def log_control(client: Connection, payload: Payload) -> bytes:
    """Change what is logged: of everything, or of one VM or container."""
    _refuse_but_operators(client)
    request = payloads.parse_log_control(payload)
    level = None if request.level == payloads.DEFAULT_LEVEL else logs.parse_level(request.level)
    if request.container_id:
        logs.set_level_for(request.container_id, level)
    elif level is not None:
        logs.set_level(level)
    fields = tags(client=client.id, log_level=request.level, target=request.container_id or "all")
    log.warning("log level changed", extra=fields)
    client.proxy.follow_consoles()
    return b""


def describe(client: Connection, payload: Payload) -> bytes:
    """Describe the daemon, its VMs and sessions."""
    _refuse_but_operators(client)
    request = payloads.parse_status(payload)
    return payloads.status(status(client.proxy, request.vm_id, request.sessions))


def subscribe(client: Connection, payload: Payload) -> bytes:
    """Tell the client what happens from now on, in all VMs or in one."""
    _refuse_but_operators(client)
    client.proxy.events.subscribe(client.outbox, payloads.parse_subscribe(payload))
    return b""


HANDLERS: dict[int, Handler] = {
    Command.REGISTER_VM: register_vm,
    Command.UNREGISTER_VM: unregister_vm,
    Command.ATTACH_VM: attach_vm,
    Command.HYPER: hyper,
    Command.CONNECT_SHIM: connect_shim,
    Command.DISCONNECT_SHIM: disconnect_shim,
    Command.SIGNAL: signal,
    Command.LOG_CONTROL: log_control,
    Command.STATUS: describe,
    Command.SUBSCRIBE: subscribe,
}


def _refuse_shim(client: Connection) -> None:
    if client.shim is not None:
        raise CommandError("a shim may only act on its own session")


def _refuse_but_operators(client: Connection) -> None:
    peer = client.peer
    if peer is None or peer.uid not in (0, os.geteuid()):
        raise CommandError("only root and the daemon's own user may do that")


def _shim_of(client: Connection) -> Shim:
    if client.shim is None:
        raise CommandError("client isn't a shim")
    return client.shim


def _allocate(client: Connection, link: VmLink, streams: int) -> bytes:
    registry = client.proxy.registry
    tokens = registry.allocate(link.vm, streams)
    if tokens:
        numbers = [registry.session(token).number for token in (tokens[0], tokens[-1])]
        which = "-".join(map(str, dict.fromkeys(numbers)))
        fields = tags(vm=link.vm.id, session=which, count=streams, client=client.id)
        log.info("tokens allocated", extra=fields)
    return payloads.io_response(client.proxy.uri, tokens)


def _start_process(client: Connection, link: VmLink, code: Code, request: payloads.Hyper) -> bytes:
    if len(request.tokens) > 1:
        raise CommandError(f"expected 0 or 1 token, got {len(request.tokens)}")
    start = parse_process_start(code, request.data)
    if request.tokens:
        session = _session_in(client, link, request.tokens[0])
        _wait_for_shim(session, client.proxy.limits.shim_timeout_s)
        return link.start_process(session, code, start, client.id)
    session = client.proxy.registry.allocate_unclaimed(link.vm)
    try:
        return link.start_process(session, code, start, client.id)
    finally:
        if session.state in BEFORE_PROCESS:
            free(client.proxy.registry, session, "its process was not started")


def _session_in(client: Connection, link: VmLink, token: str) -> Session:
    session = client.proxy.registry.session(token)
    if session.vm is not link.vm:
        raise CommandError("unknown token: {token}", token)
    return session


def _wait_for_shim(session: Session, timeout_s: float) -> None:
    if not wait_until(session, lambda: session.state not in WITHOUT_SHIM, timeout_s):
        text = "timeout waiting for shim with token {token}"
        raise DeadlineMissed(text, "shim-timeout", session.token)
