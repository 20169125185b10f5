"""Two numbers are written into the JSON that starts a process, and nothing else changes."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ccproxy_lib.errors import CommandError, PayloadError
from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.process import parse_process_start

U64 = (1 << 64) - 1


def patched(text: str, stdio: int = 3, stderr: int = 4, code: Code = Code.NEW_CONTAINER) -> str:
    return parse_process_start(code, text).with_numbers(stdio, stderr).decode()


def refused(text: str, code: Code = Code.NEW_CONTAINER) -> str:
    with pytest.raises(CommandError) as caught:
        parse_process_start(code, text)
    return str(caught.value)


# ---- by example


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"process":{}}', '{"process":{"stdio":3,"stderr":4}}'),
        ('{"process":{ \n }}', '{"process":{ \n "stdio":3,"stderr":4}}'),
        ('{"process":{"args":["sh"]}}', '{"process":{"stdio":3,"stderr":4,"args":["sh"]}}'),
        ('{"process": { "a":1 } }', '{"process": { "stdio":3,"stderr":4,"a":1 } }'),
        ('{"process":{"stdio":0,"stderr":0}}', '{"process":{"stdio":3,"stderr":4}}'),
        ('{"process":{"stderr" : 0, "stdio": 0}}', '{"process":{"stderr" : 4, "stdio": 3}}'),
        ('{"process":{"a":1,"stdio":0}}', '{"process":{"stderr":4,"a":1,"stdio":3}}'),
        ('{"process":{"stdio":null}}', '{"process":{"stderr":4,"stdio":3}}'),
        ('{"process":{"Stdio":0,"STDERR":null}}', '{"process":{"Stdio":3,"STDERR":4}}'),
        ('{"process":{"\\u0073tdio":0}}', '{"process":{"stderr":4,"\\u0073tdio":3}}'),
        ('{"PROCESS":{"stdio":0,"stderr":0}}', '{"PROCESS":{"stdio":3,"stderr":4}}'),
    ],
)
def test_numbers_replace_0_and_null_and_are_put_in_where_absent(text: str, expected: str) -> None:
    assert patched(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"process":{"terminal":true}}', '{"process":{"stdio":3,"terminal":true}}'),
        (
            '{"process":{"terminal":true,"stdio":0,"stderr":0}}',
            '{"process":{"terminal":true,"stdio":3,"stderr":0}}',
        ),
        (
            '{"process":{"stderr":null,"Terminal":true}}',
            '{"process":{"stdio":3,"stderr":null,"Terminal":true}}',
        ),
    ],
)
def test_a_terminal_has_no_number_for_stderr(text: str, expected: str) -> None:
    assert patched(text) == expected
    assert parse_process_start(Code.NEW_CONTAINER, text).terminal


@pytest.mark.parametrize("terminal", ["false", "null"])
def test_a_terminal_may_be_absent_in_other_words(terminal: str) -> None:
    text = '{"process":{"terminal":%s,"stdio":0,"stderr":0}}'
    assert patched(text % terminal) == text.replace("0,", "3,").replace(":0", ":4") % terminal


def test_members_outside_the_process_are_not_taken_for_its_numbers() -> None:
    text = '{"stdio":5,"terminal":true,"process":{"user":{"stdio":6,"stderr":7}},"stderr":8}'
    assert patched(text) == text.replace('{"user"', '{"stdio":3,"stderr":4,"user"')


def test_strings_that_look_like_members_are_strings() -> None:
    text = r'{"id":"\"process\":{\"stdio\":5}","process":{"args":["\"stdio\":5","}"],"stdio":0}}'
    expected = text.replace('{"args', '{"stderr":4,"args').replace('"stdio":0', '"stdio":3')
    assert patched(text) == expected


def test_numbers_go_up_to_64_bits() -> None:
    assert patched('{"process":{"stdio":0}}', U64, U64 - 1) == (
        '{"process":{"stderr":18446744073709551614,"stdio":18446744073709551615}}'
    )


def test_one_parsed_command_can_be_given_numbers_again() -> None:
    start = parse_process_start(Code.EXEC_CMD, '{"process":{"stdio":0}}')
    assert start.with_numbers(1, 2) == b'{"process":{"stderr":2,"stdio":1}}'
    assert start.with_numbers(30, 40) == b'{"process":{"stderr":40,"stdio":30}}'


# ---- what else is read of it


@pytest.mark.parametrize(
    ("code", "text", "container_id", "is_exec"),
    [
        (Code.NEW_CONTAINER, '{"id":"c1","container":"c2","process":{}}', "c1", False),
        (Code.EXEC_CMD, '{"id":"c1","container":"c2","process":{}}', "c2", True),
        (Code.NEW_CONTAINER, '{"process":{"id":"c3"},"ID":"\\u00e9"}', "é", False),
        (Code.NEW_CONTAINER, '{"process":{}}', "", False),
        (Code.NEW_CONTAINER, '{"id":null,"process":{}}', "", False),
        (Code.NEW_CONTAINER, '{"id":["c1"],"process":{}}', "", False),
    ],
)
def test_the_container_is_named_by_the_member_of_its_command(
    code: Code, text: str, container_id: str, is_exec: bool
) -> None:
    start = parse_process_start(code, text)
    assert (start.container_id, start.is_exec) == (container_id, is_exec)


# ---- what is refused


@pytest.mark.parametrize(
    ("process", "text"),
    [
        ('{"stdio":5}', "expected process.Stdio to be 0, got 5"),
        ('{"stderr":7}', "expected process.Stderr to be 0, got 7"),
        ('{"STDIO":5}', "expected process.Stdio to be 0, got 5"),
        ('{"ſtdio":5}', "expected process.Stdio to be 0, got 5"),
        ('{"stdio":-0}', "expected process.Stdio to be 0, got -0"),
        ('{"stdio":0.0}', "expected process.Stdio to be 0, got 0.0"),
        ('{"stdio":"0"}', 'expected process.Stdio to be 0, got "0"'),
        ('{"stdio":[]}', "expected process.Stdio to be 0, got []"),
        ('{"stdio":false}', "expected process.Stdio to be 0, got false"),
        ('{"terminal":true,"stderr":7}', "expected process.Stderr to be 0, got 7"),
        ('{"stdio":"%s"}' % ("x" * 99), f'expected process.Stdio to be 0, got "{"x" * 31}'),
    ],
)
def test_a_number_that_the_client_chose_is_refused(process: str, text: str) -> None:
    assert refused(f'{{"process":{process}}}') == text


@pytest.mark.parametrize(
    ("code", "name"), [(Code.NEW_CONTAINER, "newcontainer"), (Code.EXEC_CMD, "execcmd")]
)
def test_a_command_without_data_or_process_is_refused(code: Code, name: str) -> None:
    assert refused("", code) == f"{name} needs 'data' with a 'process'"
    for data in ('{"id":"c1"}', "{}", '{"process":null}', '{"process":[]}', '{"process":"{}"}'):
        assert refused(data, code) == f"{name} needs a 'process' object in its data"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"process":{"stdio":0,"stdio":0}}', "stdio"),
        ('{"process":{"stdio":0,"Stdio":9}}', "stdio"),
        ('{"process":{"stdio":0,"ſtdio":9}}', "stdio"),
        ('{"process":{"stderr":0,"STDERR":9}}', "stderr"),
        ('{"process":{"terminal":true,"terminal":false}}', "terminal"),
        ('{"process":{},"Process":{"stdio":9}}', "process"),
        ('{"id":"c1","ID":"c2","process":{}}', "id"),
    ],
)
def test_a_member_that_decides_must_not_stand_twice(text: str, name: str) -> None:
    assert refused(text) == f"'{name}' stands twice in one object"


@pytest.mark.parametrize("terminal", ["0", "1", '"true"', "[]", "{}"])
def test_a_terminal_is_true_or_false(terminal: str) -> None:
    text = refused(f'{{"process":{{"terminal":{terminal}}}}}')
    assert text == "'terminal' must be true or false"


@pytest.mark.parametrize("text", ["[]", "{", '{"process":{"stdio":0}', '{"process":{"a":NaN}}'])
def test_data_that_is_no_object_or_broken_is_refused(text: str) -> None:
    with pytest.raises(PayloadError, match="^not JSON: "):
        parse_process_start(Code.NEW_CONTAINER, text)


@given(
    st.lists(
        st.sampled_from(
            ['{"process":{', '"stdio":', '"stderr":', '"terminal":', '"id":', "0", "null", "true"]
            + ["5", '"x"', ",", "{", "}", "}}", "[", "]", " ", "NaN", "\\"]
        ),
        max_size=16,
    )
)
def test_text_of_any_kind_raises_nothing_but_command_errors(parts: list[str]) -> None:
    try:
        start = parse_process_start(Code.NEW_CONTAINER, "".join(parts))
    except CommandError:
        return
    assert b'"stdio":3' in start.with_numbers(3, 4)


# ---- for any object


@dataclass(frozen=True)
class Case:
    """A command, and what must come out for the numbers ``stdio`` and ``stderr``."""

    text: str
    expected: str
    terminal: bool


def any_case(name: str) -> st.SearchStrategy[str]:
    letters = [st.sampled_from([letter.lower(), letter.upper()]) for letter in name]
    return st.tuples(*letters).map("".join)


BLANKS = st.text(" \t\n\r", max_size=2)
LETTERS = st.sampled_from('aZ"\\/[]{}:, 0\t\n\0\x7f\u00e9\u2028\uffff\U0001f600')
STRINGS = st.one_of(
    st.builds(json.dumps, st.text(LETTERS, max_size=6)),
    st.builds(lambda text: json.dumps(text, ensure_ascii=False), st.text(LETTERS, max_size=6)),
    st.sampled_from(
        [r'"\u00E9\/\b\ud83d\ude00"', r'"\ud800"', r'"\"stdio\":0}"', '"}{]["', '"é😀"']
    ),
)
NUMBERS = st.sampled_from(["0", "-0", "1.50e3", "1E+2", "0.10", "9" * 40, "-1.5e-7", "1e999"])
VALUES = st.recursive(
    st.sampled_from(["null", "true", "false"]) | NUMBERS | STRINGS,
    lambda inner: st.one_of(
        st.builds(
            lambda items, blank: f"[{blank}{','.join(items)}]", st.lists(inner, max_size=3), BLANKS
        ),
        st.builds(
            lambda items, blank: (
                "{" + ",".join(f"{name}:{blank}{value}" for name, value in items) + "}"
            ),
            st.lists(st.tuples(STRINGS, inner), max_size=3),
            BLANKS,
        ),
    ),
    max_leaves=6,
)
DECIDING = {"stdio", "stderr", "terminal", "process", "id"}
OTHERS = st.lists(
    st.tuples(STRINGS.filter(lambda name: json.loads(name).lower() not in DECIDING), VALUES),
    max_size=4,
)
STDIO, STDERR = 1234567, 7654321


def written(members: list[tuple[str, str]], blanks: list[str]) -> str:
    """Write an object's members with the blanks that are given for their punctuation."""
    left, right = blanks
    return f"{right},{left}".join(f"{name}{left}:{right}{value}" for name, value in members)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Write a command twice: as a client does, and as the agent must get it."""
    terminal = draw(st.sampled_from(["true", "false", "null", None]))
    numbers = {"stdio": STDIO, "stderr": STDERR}
    if terminal == "true":
        del numbers["stderr"]
    # Each member as (name, value as sent, value as expected).
    inner = [(name, value, value) for name, value in draw(OTHERS)]
    if terminal:
        inner.append((json.dumps(draw(any_case("terminal"))), terminal, terminal))
    absent = []
    for name in ("stdio", "stderr"):
        value = draw(st.sampled_from(["0", "null", None]))
        if value:
            inner.append((json.dumps(draw(any_case(name))), value, str(numbers.get(name, value))))
        elif name in numbers:
            absent.append(f'"{name}":{numbers[name]}')
    inner = draw(st.permutations(inner))
    blanks = [draw(BLANKS), draw(BLANKS)]
    begin, end, added = draw(BLANKS), draw(BLANKS), ",".join(absent)
    comma = "," if absent and inner else ""
    if not inner:
        begin, end = begin + end, ""
    sent = written([(name, value) for name, value, _ in inner], blanks)
    got = written([(name, value) for name, _, value in inner], blanks)
    # The process is a marker at first, so that it can be any of the members.
    marker = f"@{draw(st.integers(1 << 60, U64))}@"
    outer = [*draw(OTHERS), (json.dumps(draw(any_case("process"))), marker)]
    left, right = blanks
    whole = f"{left}{{{right}{written(draw(st.permutations(outer)), blanks)}{left}}}"
    assume(whole.count(marker) == 1)
    return Case(
        whole.replace(marker, f"{{{begin}{sent}{end}}}"),
        whole.replace(marker, f"{{{begin}{added}{comma}{got}{end}}}"),
        terminal == "true",
    )


def pairs(text: str) -> object:
    """Parse JSON to lists of (name, value), with numbers as they are written."""
    return json.loads(
        text, object_pairs_hook=list, parse_int=lambda n: ("n", n), parse_float=lambda n: ("n", n)
    )


def without_numbers(members: list[tuple[str, object]]) -> list[tuple[str, object]]:
    return [(name, value) for name, value in members if name.lower() not in ("stdio", "stderr")]


@given(cases())
@example(Case('{"process":{}}', '{"process":{"stdio":1234567,"stderr":7654321}}', False))
def test_all_text_but_the_numbers_stays_byte_for_byte(case: Case) -> None:
    start = parse_process_start(Code.NEW_CONTAINER, case.text)
    assert start.with_numbers(STDIO, STDERR) == case.expected.encode()
    assert start.terminal == case.terminal


@given(cases())
def test_another_reader_sees_a_difference_in_the_two_numbers_only(case: Case) -> None:
    before = pairs(case.text)
    after = pairs(patched(case.text, STDIO, STDERR))
    assert isinstance(before, list) and isinstance(after, list)
    assert [name for name, _ in after] == [name for name, _ in before]
    for (name, old), (_, new) in zip(before, after, strict=True):
        if name.lower() != "process":
            assert new == old
            continue
        assert without_numbers(new) == without_numbers(old)
        found = {inner.lower(): value for inner, value in new}
        assert found["stdio"] == ("n", str(STDIO))
        if not case.terminal:
            assert found["stderr"] == ("n", str(STDERR))
        names = [inner.lower() for inner, _ in new]
        assert names.count("stdio") == 1 and names.count("stderr") <= 1


def test_a_large_command_is_patched_in_time_in_proportion() -> None:
    members = ",".join(f'"env{n}":"{random.Random(n).random()}"' for n in range(5_000))
    text = f'{{"process":{{{members},"stdio":0}}}}'
    assert patched(text) == text.replace('{"env0"', '{"stderr":4,"env0"').replace(
        '"stdio":0', '"stdio":3'
    )
