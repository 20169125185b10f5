"""What clients send and are answered: names in any case, and errors that say what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.errors import CommandError, PayloadError
from ccproxy_lib.wire import payloads
from ccproxy_lib.wire.payloads import (
    AttachVM,
    Hyper,
    LogEntry,
    RegisterVM,
    Signal,
    parse_attach_vm,
    parse_connect_shim,
    parse_hyper,
    parse_log_entry,
    parse_register_vm,
    parse_signal,
    parse_unregister_vm,
)

PARSERS: dict[str, Callable[[bytes], object]] = {
    "RegisterVM": parse_register_vm,
    "UnregisterVM": parse_unregister_vm,
    "AttachVM": parse_attach_vm,
    "Hyper": parse_hyper,
    "ConnectShim": parse_connect_shim,
    "Signal": parse_signal,
    "Log": parse_log_entry,
}
# A payload with all members, and what it means.
COMPLETE: dict[str, tuple[dict[str, object], object]] = {
    "RegisterVM": (
        {
            "containerId": "pod1",
            "ctlSerial": "/run/vm/ctl.sock",
            "ioSerial": "/run/vm/io.sock",
            "console": "/run/vm/console.sock",
            "numIOStreams": 2,
        },
        RegisterVM("pod1", "/run/vm/ctl.sock", "/run/vm/io.sock", "/run/vm/console.sock", 2),
    ),
    "UnregisterVM": ({"containerId": "pod1"}, "pod1"),
    "AttachVM": ({"containerId": "pod1", "numIOStreams": 1}, AttachVM("pod1", 1)),
    "Hyper": (
        {"hyperName": "ping", "tokens": ["t1", "t2"], "data": {"Key": "Value"}},
        Hyper("ping", ("t1", "t2"), '{"Key": "Value"}'),
    ),
    "ConnectShim": ({"token": "bwgxfmQj9uG3"}, "bwgxfmQj9uG3"),
    "Signal": ({"signalNumber": 28, "columns": 80, "rows": 24}, Signal(28, 80, 24)),
    "Log": (
        {"source": "shim", "containerId": "c1", "level": "warn", "msg": "hello"},
        LogEntry("shim", "c1", "warn", "hello"),
    ),
}
# The members that may be absent, and what they then mean.
OPTIONAL: dict[str, tuple[set[str], object]] = {
    "RegisterVM": (
        {"console", "numIOStreams"},
        RegisterVM("pod1", "/run/vm/ctl.sock", "/run/vm/io.sock", "", 0),
    ),
    "UnregisterVM": (set(), "pod1"),
    "AttachVM": ({"numIOStreams"}, AttachVM("pod1", 0)),
    "Hyper": ({"tokens", "data"}, Hyper("ping", (), "")),
    "ConnectShim": (set(), "bwgxfmQj9uG3"),
    "Log": ({"containerId", "msg"}, LogEntry("shim", "", "warn", "")),
}
MANDATORY = [
    (command, name)
    for command, (fields, _) in COMPLETE.items()
    if command in OPTIONAL
    for name in fields.keys() - OPTIONAL[command][0]
]
EACH_COMMAND = pytest.mark.parametrize("command", COMPLETE)


def encoded(fields: dict[str, object]) -> bytes:
    return json.dumps(fields).encode()


def refused(parser: Callable[[bytes], object], payload: bytes) -> str:
    with pytest.raises(CommandError) as caught:
        parser(payload)
    return str(caught.value)


# ---- what all payloads have in common


@EACH_COMMAND
def test_a_payload_with_everything_is_read(command: str) -> None:
    fields, expected = COMPLETE[command]
    assert PARSERS[command](encoded(fields)) == expected
    assert PARSERS[command](memoryview(encoded(fields))) == expected


@EACH_COMMAND
@pytest.mark.parametrize("change", [str.upper, str.lower, str.title, str.swapcase])
def test_names_are_matched_without_regard_to_case(
    command: str, change: Callable[[str], str]
) -> None:
    fields, expected = COMPLETE[command]
    assert PARSERS[command](encoded({change(name): fields[name] for name in fields})) == expected


@EACH_COMMAND
def test_unknown_members_are_ignored(command: str) -> None:
    fields, expected = COMPLETE[command]
    more = {"x": {"containerId": 7}, "": None, **fields, "token2": [1, {"tokens": "no"}]}
    assert PARSERS[command](encoded(more)) == expected


@pytest.mark.parametrize("command", OPTIONAL)
@pytest.mark.parametrize("null", [False, True])
def test_optional_members_may_be_absent_or_null(command: str, null: bool) -> None:
    fields, _ = COMPLETE[command]
    optional, expected = OPTIONAL[command]
    less = {name: value for name, value in fields.items() if name not in optional}
    assert PARSERS[command](encoded(less | dict.fromkeys(optional if null else ()))) == expected


@pytest.mark.parametrize(("command", "name"), MANDATORY)
def test_a_missing_member_is_named(command: str, name: str) -> None:
    fields, _ = COMPLETE[command]
    without = {other: value for other, value in fields.items() if other != name}
    for payload in (without, without | {name: None}, without | {name: ""}):
        assert refused(PARSERS[command], encoded(payload)) == f"'{name}' is missing"


@EACH_COMMAND
@pytest.mark.parametrize("value", [True, 1.5, {"a": 1}])
def test_a_member_of_another_type_is_named(command: str, value: object) -> None:
    fields, _ = COMPLETE[command]
    for name in fields.keys() - {"data"}:
        text = refused(PARSERS[command], encoded(fields | {name: value}))
        assert re.fullmatch(f"'{name}' must be a (string|whole number|list of strings)", text)


@EACH_COMMAND
@pytest.mark.parametrize("payload", [b"[1]", b"{", b"\xff", b'{"a":NaN'])
def test_a_payload_that_is_no_object_is_refused(command: str, payload: bytes) -> None:
    with pytest.raises(PayloadError):
        PARSERS[command](payload)


@EACH_COMMAND
@given(payload=st.binary(max_size=50))
def test_bytes_of_any_kind_raise_nothing_but_command_errors(command: str, payload: bytes) -> None:
    try:
        PARSERS[command](payload)
    except CommandError:
        pass


# ---- counts


@pytest.mark.parametrize("command", ["RegisterVM", "AttachVM"])
@pytest.mark.parametrize("value", ["2.0", '"2"', "true", "[]", "NaN", "1e400"])
def test_a_count_must_be_a_whole_number(command: str, value: str) -> None:
    fields, _ = COMPLETE[command]
    payload = encoded(fields | {"numIOStreams": 12345}).replace(b"12345", value.encode())
    assert refused(PARSERS[command], payload) == "'numIOStreams' must be a whole number"


def test_a_count_below_zero_is_refused() -> None:
    text = refused(parse_attach_vm, b'{"containerId":"c1","numIOStreams":-1}')
    assert text == "'numIOStreams' must not be negative, got -1"


# ---- Hyper


@pytest.mark.parametrize("tokens", [b"null", b"[]"])
def test_no_tokens_may_be_null_or_an_empty_list(tokens: bytes) -> None:
    payload = b'{"hyperName":"ping","tokens":%b}' % tokens
    assert parse_hyper(payload) == Hyper("ping", (), "")


@pytest.mark.parametrize("tokens", [b'"t"', b"[1]", b'["t",null]', b"{}", b"0"])
def test_tokens_must_be_a_list_of_strings(tokens: bytes) -> None:
    payload = b'{"hyperName":"ping","tokens":%b}' % tokens
    assert refused(parse_hyper, payload) == "'tokens' must be a list of strings"


@pytest.mark.parametrize(
    "data",
    [
        '{ "b" : 1.50e3, "a":[ 1,2 ],\t"\\u0041": "\\/é" }',
        "{}",
        "[1, 2]",
        "0",
        "false",
        '""',
        '"text"',
        "123456789012345678901234567890.10",
    ],
)
@pytest.mark.parametrize("name", ["data", "DATA", "d\\u0061ta"])
def test_data_is_handed_on_as_the_client_wrote_it(name: str, data: str) -> None:
    payload = f'{{"x":[],"{name}" :  {data} , "hyperName":"startpod"}}'.encode()
    assert parse_hyper(payload) == Hyper("startpod", (), data)


def test_data_that_stands_twice_is_refused() -> None:
    payload = b'{"hyperName":"startpod","data":{"a":1},"Data":{"b":2}}'
    assert refused(parse_hyper, payload) == "'data' stands twice in one object"


@pytest.mark.parametrize("data", [b'"\xff"', b'"\xed\xa0\x80"', b"NaN", b"[01]", b'"\n"'])
def test_data_that_an_agent_might_choke_on_is_refused(data: bytes) -> None:
    assert refused(parse_hyper, b'{"hyperName":"ping","data":%b}' % data).startswith("not JSON: ")


def test_data_nested_too_deeply_is_refused() -> None:
    payload = b'{"hyperName":"ping","data":' + b"[" * 5000 + b"]" * 5000 + b"}"
    assert refused(parse_hyper, payload) == "JSON nested deeper than 100 levels"


# ---- Signal


@pytest.mark.parametrize("number", [n for n in range(31) if n != payloads.SIGWINCH])
def test_signals_from_0_to_30_are_valid(number: int) -> None:
    assert parse_signal(b'{"signalNumber":%d}' % number) == Signal(number, 0, 0)
    assert parse_signal(b'{"signalNumber":%d,"columns":0,"rows":0}' % number).rows == 0


@pytest.mark.parametrize("number", [-1, 31, 64, 1 << 70])
def test_other_signals_are_not(number: int) -> None:
    text = refused(parse_signal, b'{"signalNumber":%d}' % number)
    assert text == f"invalid signal number {number}"


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ("", "(0,0)"),
        (',"columns":80', "(80,0)"),
        (',"rows":24', "(0,24)"),
        (',"columns":null,"rows":0', "(0,0)"),
    ],
)
def test_a_window_change_needs_a_size(size: str, shown: str) -> None:
    text = refused(parse_signal, f'{{"signalNumber":28{size}}}'.encode())
    assert text == f"received SIGWINCH but terminal size is invalid {shown}"


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "signal 0"),
        (1, "hangup"),
        (2, "interrupt"),
        (9, "killed"),
        (10, "user defined signal 1"),
        (15, "terminated"),
        (19, "stopped (signal)"),
        (30, "power failure"),
    ],
)
def test_other_signals_come_without_a_size(number: int, name: str) -> None:
    payload = b'{"signalNumber":%d,"columns":80,"rows":24}' % number
    text = refused(parse_signal, payload)
    assert text == f"received a terminal size (80,24) for signal {name}"


def test_half_a_size_is_also_one_too_many() -> None:
    text = refused(parse_signal, b'{"signalNumber":15,"rows":24}')
    assert text == "received a terminal size (0,24) for signal terminated"


def test_every_valid_signal_has_a_name_of_its_own() -> None:
    assert len(set(payloads.SIGNAL_NAMES)) == 31
    assert payloads.SIGNAL_NAMES[payloads.SIGWINCH] == "window changed"
    assert payloads.SIGNAL_NAMES[payloads.SIGKILL] == "killed"
    assert payloads.SIGNAL_NAMES[payloads.SIGTERM] == "terminated"


def test_a_signal_needs_its_number() -> None:
    assert refused(parse_signal, b"") == "'signalNumber' is missing"
    assert refused(parse_signal, b'{"signalNumber":"9"}') == "'signalNumber' must be a whole number"
    text = refused(parse_signal, b'{"signalNumber":28,"columns":-80,"rows":24}')
    assert text == "'columns' must not be negative, got -80"


# ---- log entries


@pytest.mark.parametrize("source", ["shim", "runtime"])
@pytest.mark.parametrize("level", ["debug", "info", "warn", "error"])
def test_log_entries_have_these_sources_and_levels(source: str, level: str) -> None:
    payload = encoded({"source": source, "level": level, "msg": "m"})
    assert parse_log_entry(payload) == LogEntry(source, "", level, "m")


def test_log_entries_have_no_others() -> None:
    text = refused(parse_log_entry, b'{"source":"agent","level":"info","msg":"m"}')
    assert text == "unknown log source 'agent'"
    text = refused(parse_log_entry, b'{"source":"shim","level":"warning","msg":"m"}')
    assert text == "unknown log level 'warning'"


# ---- what is sent


def test_the_io_answer_has_exactly_the_shape_that_clients_know() -> None:
    answer = payloads.io_response("unix:///run/clear-containers/proxy.sock", ["a_-=", "b"])
    assert answer == (
        b'{"io":{"URL":"unix:///run/clear-containers/proxy.sock","tokens":["a_-=","b"]}}'
    )


def test_no_tokens_are_answered_as_null() -> None:
    answer = payloads.io_response("unix:///path", [])
    assert answer == b'{"io":{"URL":"unix:///path","tokens":null}}'


def test_an_error_is_answered_with_its_text() -> None:
    answer = payloads.error_response("unknown command 'x'")
    assert answer == b'{"msg":"unknown command \'x\'"}'


@given(st.text(st.sampled_from('aZ"\\/\0\n\x7f\u00e9\u2028\ud800\uffff\U0001f600')))
def test_any_text_that_a_client_sent_can_go_back_in_an_error(text: str) -> None:
    assert json.loads(payloads.error_response(text)) == {"msg": text}


def test_a_signal_becomes_a_killcontainer() -> None:
    agent_json = payloads.kill_container("c1", 10)
    assert agent_json == b'{"container":"c1","signal":10,"allProcesses":false}'


def test_a_window_change_becomes_a_winsize() -> None:
    agent_json = payloads.win_size(3, Signal(28, columns=80, rows=24))
    assert agent_json == b'{"seq":3,"row":24,"column":80}'


# ---- what operators ask


def test_log_control_for_all_and_for_one() -> None:
    assert payloads.parse_log_control(b'{"Level":"debug"}') == ("debug", "")
    assert payloads.parse_log_control(b'{"level":"default","containerId":"c"}') == ("default", "c")
    assert payloads.parse_log_control(b'{"level":"fatal"}') == ("fatal", "")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "'level' is missing"),
        (b'{"level":"loud"}', "unknown log level 'loud': use one of debug, "),
        (b'{"level":"default"}', "unknown log level 'default'"),
        (b'{"level":1}', "'level' must be a string"),
    ],
)
def test_log_control_that_is_wrong(payload: bytes, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason):
        payloads.parse_log_control(payload)


def test_status_and_subscribe_may_be_empty() -> None:
    assert payloads.parse_status(b"") == ("", True)
    assert payloads.parse_status(b'{"containerId":"c","sessions":false}') == ("c", False)
    assert payloads.parse_subscribe(b"") == ""
    assert payloads.parse_subscribe(b'{"containerId":"c"}') == "c"
    with pytest.raises(PayloadError, match="'sessions' must be true or false"):
        payloads.parse_status(b'{"sessions":1}')


def test_reports_and_events_are_compact_json() -> None:
    assert payloads.status({"vms": []}) == b'{"vms":[]}'
    assert payloads.event({"event": "dropped", "count": 2}) == b'{"event":"dropped","count":2}'
