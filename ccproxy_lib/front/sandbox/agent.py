"""What the agent does with each command and each stdin message."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable
from typing import Any

from ccproxy_lib.errors import CommandError, ProtocolError
from ccproxy_lib.front.sandbox import spec
from ccproxy_lib.front.sandbox.container import Container
from ccproxy_lib.front.sandbox.life import Life
from ccproxy_lib.front.sandbox.port import GuestPort
from ccproxy_lib.front.sandbox.process import Process
from ccproxy_lib.wire import ctl, tty
from ccproxy_lib.wire.ctl import Code

API_VERSION = 4242

log = logging.getLogger(__name__)


class Agent:
    """The state of the pod.

    ``output_bytes`` is the largest data of one output message; ``strict``
    refuses JSON members that old agents don't know.
    """

    def __init__(
        self, life: Life, control: GuestPort, io: GuestPort, output_bytes: int, strict: bool
    ) -> None:
        self._life = life
        self._control = control
        self._io = io
        self._output_bytes = output_bytes
        self._strict = strict
        self._containers: dict[str, Container] = {}
        self._by_stdio: dict[int, Process] = {}
        self._used_numbers: set[int] = set()
        self._ended_stdios: set[int] = set()

    def obey(self) -> None:
        """Say READY and answer commands until destroypod."""
        self._control.send(ctl.encode(Code.READY))
        code = -1
        while code != Code.DESTROY_POD:
            code, payload = self._control.read_message()
            self._control.send(self._answer(code, payload))
        self._life.end(0)

    def deliver(self) -> None:
        """Hand stdin messages to their processes; never returns."""
        while True:
            number, data = self._io.read_message()
            process = self._by_stdio.get(number)
            if process:
                process.stdin.put(data)
            # That stdin crosses the process's end on the way is nobody's fault.
            elif number not in self._ended_stdios:
                log.error("I/O message for unknown number %d ignored", number)

    def _answer(self, code: int, payload: bytes) -> bytes:
        try:
            handler = _HANDLERS.get(code)
            if handler is None:
                raise CommandError(f"command code {code} is unknown or deprecated")
            return ctl.encode(Code.ACK, handler(self, payload))
        except CommandError as error:
            return ctl.encode(Code.ERROR, str(error).encode("utf-8", "backslashreplace"))

    def _acknowledge(self, payload: bytes) -> bytes:
        return b""

    def _acknowledge_object(self, payload: bytes) -> bytes:
        spec.parse_object(payload)
        return b""

    def _refuse_files(self, payload: bytes) -> bytes:
        raise CommandError("this agent has no files of its own: use the host's")

    def _version(self, payload: bytes) -> bytes:
        return API_VERSION.to_bytes(4, "big")

    def _new_container(self, payload: bytes) -> bytes:
        order = spec.parse_new_container(payload, self._strict)
        self._claim(order.process)
        if order.container in self._containers:
            raise CommandError(f"container {order.container} exists")
        process = Process(order.process)
        self._containers[order.container] = container = Container(process)
        self._watch(process, container)
        return b""

    def _exec(self, payload: bytes) -> bytes:
        order = spec.parse_exec(payload, self._strict)
        self._claim(order.process)
        container = self._running_container(order.container)
        process = Process(order.process)
        container.add(process)
        self._watch(process, container)
        if not container.running:
            # It ended while the process was starting.
            container.signal_all(signal.SIGKILL)
        return b""

    def _resize(self, payload: bytes) -> bytes:
        order = spec.parse_object(payload)
        row = spec.number(order, "row", 0, spec.MAX_TERMINAL_SIZE)
        column = spec.number(order, "column", 0, spec.MAX_TERMINAL_SIZE)
        self._process_to_resize(order).resize(row, column)
        return b""

    def _process_to_resize(self, order: dict[str, Any]) -> Process:
        if "seq" not in order:
            container = self._container(spec.text(order, "container"))
            return container.find(spec.text(order, "process"))
        number = spec.number(order, "seq", 1, spec.MAX_STREAM_NUMBER)
        if number not in self._by_stdio:
            raise CommandError(f"no process has stdio {number}")
        return self._by_stdio[number]

    def _kill(self, payload: bytes) -> bytes:
        order = spec.parse_object(payload)
        number = spec.number(order, "signal", 1, signal.NSIG - 1)
        container = self._running_container(spec.text(order, "container"))
        if spec.flag(order, "allProcesses"):
            container.signal_all(number)
        else:
            container.first.signal(number)
        return b""

    def _remove(self, payload: bytes) -> bytes:
        id = spec.text(spec.parse_object(payload), "container")
        if self._container(id).running:
            raise CommandError(f"container {id} is running")
        del self._containers[id]
        return b""

    def _list_processes(self, payload: bytes) -> bytes:
        id = spec.text(spec.parse_object(payload), "container")
        entries = self._container(id).members()
        return json.dumps([entry._asdict() for entry in entries]).encode()

    def _container(self, id: str) -> Container:
        if id not in self._containers:
            raise CommandError(f"unknown container: {id}")
        return self._containers[id]

    def _running_container(self, id: str) -> Container:
        container = self._container(id)
        if not container.running:
            raise CommandError(f"container {id} is not running")
        return container

    def _claim(self, process: spec.ProcessSpec) -> None:
        """Take stream numbers for good, whether or not the process then starts."""
        for number in process.stream_numbers:
            if number in self._used_numbers:
                raise ProtocolError(f"stream number {number} was used before")
            self._used_numbers.add(number)

    def _watch(self, process: Process, container: Container) -> None:
        self._by_stdio[process.spec.stdio] = process
        process.carry(self._life, self._io.send, self._output_bytes)
        self._life.spawn(self._see_out, process, container)

    def _see_out(self, process: Process, container: Container) -> None:
        status = process.wait()
        if process is container.first:
            container.signal_all(signal.SIGKILL)
        process.drain()
        stdio = process.spec.stdio
        del self._by_stdio[stdio]
        self._ended_stdios.add(stdio)
        self._io.send(tty.encode(stdio) + tty.encode(stdio, bytes([status])))


_HANDLERS: dict[int, Callable[[Agent, bytes], bytes]] = {
    Code.VERSION: Agent._version,
    Code.START_POD: Agent._acknowledge_object,
    Code.DESTROY_POD: Agent._acknowledge,
    Code.EXEC_CMD: Agent._exec,
    Code.WIN_SIZE: Agent._resize,
    Code.PING: Agent._acknowledge,
    Code.WRITE_FILE: Agent._refuse_files,
    Code.READ_FILE: Agent._refuse_files,
    Code.NEW_CONTAINER: Agent._new_container,
    Code.KILL_CONTAINER: Agent._kill,
    Code.ONLINE_CPU_MEM: Agent._acknowledge,
    Code.SETUP_INTERFACE: Agent._acknowledge,
    Code.SETUP_ROUTE: Agent._acknowledge,
    Code.REMOVE_CONTAINER: Agent._remove,
    Code.PS_CONTAINER: Agent._list_processes,
}
