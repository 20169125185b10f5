"""JSON payloads of the client protocol, version 2: what clients send and are answered."""

from typing import Any, NamedTuple

from ccproxy_lib.errors import CommandError, PayloadError
from ccproxy_lib.wire import json

LOG_LEVELS = ("debug", "info", "warn", "error")
# A daemon may be told to log no entry at all.
CONTROL_LEVELS = (*LOG_LEVELS, "fatal", "panic")
# What takes back a level that was set for one container.
DEFAULT_LEVEL = "default"
LOG_SOURCES = ("shim", "runtime")


class RegisterVM(NamedTuple):
    """``containerId`` names the VM; the serials are paths of the agent's sockets."""

    vm_id: str
    ctl_path: str
    io_path: str
    console_path: str
    streams: int


class AttachVM(NamedTuple):
    """Attach to a VM and take ``streams`` tokens."""

    vm_id: str
    streams: int


class Hyper(NamedTuple):
    """One agent command; ``data`` is the JSON for the agent as the client wrote it."""

    name: str
    tokens: tuple[str, ...]
    data: str


class Signal(NamedTuple):
    """A signal for the shim's process; columns and rows are 0 unless it is SIGWINCH."""

    number: int
    columns: int
    rows: int


class LogEntry(NamedTuple):
    """A line that a runtime or a shim wants in the proxy's log."""

    source: str
    container_id: str
    level: str
    message: str


class LogControl(NamedTuple):
    """Log at ``level``: everything, or what concerns one VM or container.

    For one of those, "default" takes an earlier level back.
    """

    level: str
    container_id: str


class Status(NamedTuple):
    """Describe the daemon; one VM alone, if named; ``sessions`` or only their sums."""

    vm_id: str
    sessions: bool


def parse_register_vm(payload: bytes | memoryview) -> RegisterVM:
    """Parse RegisterVM's payload; PayloadError names the member that is wrong."""
    return register_vm_of(json.parse_object(payload))


def register_vm_of(fields: dict[str, Any]) -> RegisterVM:
    """Return the VM that members of either protocol describe; PayloadError if they don't."""
    return RegisterVM(
        vm_id=_text(fields, "containerId"),
        ctl_path=_text(fields, "ctlSerial"),
        io_path=_text(fields, "ioSerial"),
        console_path=_text(fields, "console", ""),
        streams=_number(fields, "numIOStreams"),
    )


def parse_unregister_vm(payload: bytes | memoryview) -> str:
    """Return the VM id of UnregisterVM's payload."""
    return vm_id_of(json.parse_object(payload))


def vm_id_of(fields: dict[str, Any]) -> str:
    """Return the VM id among members of either protocol; PayloadError if there is none."""
    return _text(fields, "containerId")


def parse_attach_vm(payload: bytes | memoryview) -> AttachVM:
    """Parse AttachVM's payload."""
    fields = json.parse_object(payload)
    return AttachVM(_text(fields, "containerId"), _number(fields, "numIOStreams"))


def parse_hyper(payload: bytes | memoryview) -> Hyper:
    """Parse Hyper's payload; a ``data`` of null counts as none."""
    fields = json.parse_object(payload)
    return hyper_of(fields, json.decode_text(payload))


def hyper_of(fields: dict[str, Any], text: str) -> Hyper:
    """Return the command that members describe; ``text`` is the JSON that they are from."""
    tokens = fields.get("tokens")
    if tokens is None:
        tokens = []
    elif not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise PayloadError("'tokens' must be a list of strings")
    data = ""
    if fields.get("data") is not None:
        member = json.find(json.members(text), "data")
        assert member is not None  # both readings of the text agree on its members
        data = text[member.start : member.end]
    return Hyper(_text(fields, "hyperName"), tuple(tokens), data)


def parse_connect_shim(payload: bytes | memoryview) -> str:
    """Return the token of ConnectShim's payload."""
    return _text(json.parse_object(payload), "token")


def parse_signal(payload: bytes | memoryview) -> Signal:
    """Parse Signal's payload and check that number and terminal size go together.

    Raises CommandError with the texts that clients of the original know.
    """
    fields = json.parse_object(payload)
    if "signalnumber" not in fields:
        raise PayloadError("'signalNumber' is missing")
    number = _integer(fields["signalnumber"], "signalNumber")
    signal = Signal(number, _number(fields, "columns"), _number(fields, "rows"))
    if not 0 <= number < len(SIGNAL_NAMES):
        raise CommandError(f"invalid signal number {number}")
    if number == SIGWINCH:
        if not (signal.columns and signal.rows):
            raise CommandError(
                f"received SIGWINCH but terminal size is invalid ({signal.columns},{signal.rows})"
            )
    elif signal.columns or signal.rows:
        raise CommandError(
            f"received a terminal size ({signal.columns},{signal.rows})"
            f" for signal {SIGNAL_NAMES[number]}"
        )
    return signal


def parse_log_entry(payload: bytes | memoryview) -> LogEntry:
    """Parse a log stream's payload; PayloadError says what is wrong with it."""
    fields = json.parse_object(payload)
    entry = LogEntry(
        source=_text(fields, "source"),
        container_id=_text(fields, "containerId", ""),
        level=_text(fields, "level"),
        message=_text(fields, "msg", ""),
    )
    if entry.source not in LOG_SOURCES:
        raise PayloadError(f"unknown log source '{entry.source}'")
    if entry.level not in LOG_LEVELS:
        raise PayloadError(f"unknown log level '{entry.level}'")
    return entry


def parse_log_control(payload: bytes | memoryview) -> LogControl:
    """Parse LogControl's payload."""
    fields = json.parse_object(payload)
    request = LogControl(_text(fields, "level"), _text(fields, "containerId", ""))
    names = (*CONTROL_LEVELS, DEFAULT_LEVEL) if request.container_id else CONTROL_LEVELS
    if request.level not in names:
        raise PayloadError(f"unknown log level '{request.level}': use one of {', '.join(names)}")
    return request


def parse_status(payload: bytes | memoryview) -> Status:
    """Parse Status's payload, which may be empty."""
    fields = json.parse_object(payload) if payload else {}
    sessions = fields.get("sessions")
    if sessions is not None and type(sessions) is not bool:
        raise PayloadError("'sessions' must be true or false")
    return Status(_text(fields, "containerId", ""), sessions is not False)


def parse_subscribe(payload: bytes | memoryview) -> str:
    """Return the VM id of Subscribe's payload, "" for all VMs."""
    return _text(json.parse_object(payload) if payload else {}, "containerId", "")


def status(report: dict[str, Any]) -> bytes:
    """Return the answer to Status."""
    return json.dumps(report)


def event(fields: dict[str, object]) -> bytes:
    """Return the payload of an event."""
    return json.dumps(fields)


def io_response(url: str, tokens: list[str]) -> bytes:
    """Return the answer to RegisterVM and AttachVM, in exactly the shape that clients know."""
    return json.dumps({"io": {"URL": url, "tokens": tokens or None}})


def error_response(message: str) -> bytes:
    """Return the payload of a response with the error flag."""
    return json.dumps({"msg": message})


def kill_container(container_id: str, signal: int) -> bytes:
    """Return the agent's JSON that signals a container's first process."""
    return json.dumps({"container": container_id, "signal": signal, "allProcesses": False})


def win_size(seq: int, signal: Signal) -> bytes:
    """Return the agent's JSON that resizes the terminal of the process with stdio ``seq``."""
    return json.dumps({"seq": seq, "row": signal.rows, "column": signal.columns})


def _text(fields: dict[str, Any], name: str, default: str | None = None) -> str:
    value = fields.get(name.lower())
    if value is None or value == "":
        if default is None:
            raise PayloadError(f"'{name}' is missing")
        return default
    if not isinstance(value, str):
        raise PayloadError(f"'{name}' must be a string")
    return value


def _number(fields: dict[str, Any], name: str) -> int:
    """Return a count, 0 where it is absent or null."""
    value = fields.get(name.lower())
    if value is None:
        return 0
    number = _integer(value, name)
    if number < 0:
        raise PayloadError(f"'{name}' must not be negative, got {number}")
    return number


def _integer(value: Any, name: str) -> int:
    if type(value) is not int:
        raise PayloadError(f"'{name}' must be a whole number")
    return value


SIGTERM = 15
SIGKILL = 9
SIGWINCH = 28

# Error texts name signals as clients of the original know them, so the names
# are part of the protocol and do not come from this host's C library.
SIGNAL_NAMES = (
    "signal 0",
    "hangup",
    "interrupt",
    "quit",
    "illegal instruction",
    "trace/breakpoint trap",
    "aborted",
    "bus error",
    "floating point exception",
    "killed",
    "user defined signal 1",
    "segmentation fault",
    "user defined signal 2",
    "broken pipe",
    "alarm clock",
    "terminated",
    "stack fault",
    "child exited",
    "continued",
    "stopped (signal)",
    "stopped",
    "stopped (tty input)",
    "stopped (tty output)",
    "urgent I/O condition",
    "CPU time limit exceeded",
    "file size limit exceeded",
    "virtual timer expired",
    "profiling timer expired",
    "window changed",
    "I/O possible",
    "power failure",
)
