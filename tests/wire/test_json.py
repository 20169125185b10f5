"""The sharp edges of the JSON libraries: none of them shows outside this module."""

from __future__ import annotations

import json as stdlib_json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.errors import PayloadError
from ccproxy_lib.wire import json

MIB = 1 << 20

# What readers of JSON stumble over, among what they don't.
LETTERS = st.sampled_from('aZ"\\/[]{}:, 0\t\n\0\x7f\u00e9\u017f\u2028\uffff\U0001f600')
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(LETTERS, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(LETTERS, max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)
# Text that a parser takes for JSON for some time.
NEARLY_JSON = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", ":", ",", '"', "\\", '"a"', '"\\u00e9"', "1", "-", "1e5", "NaN"]
        + ["null", "true", " ", "\n", "é", "\ud800", "\x00"]
    ),
    max_size=30,
).map("".join)

# JSON of several kinds of being broken.
BROKEN = [
    b" ",
    b"x",
    b"{",
    b"}",
    b'{"a"',
    b'{"a" 1}',
    b'{"a":}',
    b'{"a":1,}',
    b'{"a":1,,"b":2}',
    b'{"a":1 "b":2}',
    b"{1:2}",
    b"{'a':1}",
    b'{"a":tru}',
    b'{"a":nan}',
    b'{"a":+1}',
    b'{"a":"x',
    b'{"a":"\\x"}',
    b'{"a":[1}',
    b'{"a"\x0b:1}',
    b'{"a":\xc2\xa01}',
    b"\x00",
]
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
INVALID_UTF8 = [
    b'{"a":"\xff"}',
    b'{"a":"\xc0\x80"}',
    b'{"a":"\xe2(\xa1"}',
    b'{"\xf4\x90\x80\x80":1}',
]


# ---- out


def test_what_is_written_is_compact_and_in_the_order_given() -> None:
    value = {"b": 1, "a": [True, None, "x/y"]}
    assert json.dumps(value) == b'{"b":1,"a":[true,null,"x/y"]}'


@given(JSON_VALUES)
def test_what_is_written_any_reader_understands(value: object) -> None:
    assert stdlib_json.loads(json.dumps(value)) == value


def test_what_is_written_is_ascii_even_for_text_that_utf8_cannot_hold() -> None:
    assert json.dumps({"msg": "é\ud800"}) == b'{"msg":"\\u00e9\\ud800"}'


# ---- objects


def test_names_come_in_lower_case_and_values_as_they_are() -> None:
    fields = json.parse_object(b'{"containerId":"VM-1","NUMIOSTREAMS":2,"data":{"Keep":"Me"}}')
    assert fields == {"containerid": "VM-1", "numiostreams": 2, "data": {"Keep": "Me"}}


@given(st.dictionaries(st.text(LETTERS, max_size=5).map(json.fold), JSON_VALUES))
def test_every_object_is_read(value: dict[str, object]) -> None:
    assert json.parse_object(stdlib_json.dumps(value).encode()) == value
    assert json.parse_object(stdlib_json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize("payload", [b"", memoryview(b""), b"{}", b" {\t}\r\n"])
def test_an_empty_payload_is_an_empty_object(payload: bytes | memoryview) -> None:
    assert json.parse_object(payload) == {}


def test_a_view_is_as_good_as_bytes() -> None:
    assert json.parse_object(memoryview(b'xx{"a":1}')[2:]) == {"a": 1}


def test_of_names_that_differ_in_case_only_the_last_one_counts() -> None:
    assert json.parse_object(b'{"token":"a","Token":"b","TOKEN":"c"}') == {"token": "c"}


def test_names_are_matched_as_go_does_it() -> None:
    # To Go the long s is an s, and the Kelvin sign is a k.
    assert json.parse_object('{"to\u212aen":"t","tokenſ":1}'.encode()) == {
        "token": "t",
        "tokens": 1,
    }


@pytest.mark.parametrize("payload", [b"[]", b"null", b"1", b'"text"', b"true"])
def test_anything_but_an_object_is_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError, match="^the payload must be a JSON object$"):
        json.parse_object(payload)


@pytest.mark.parametrize("payload", [*BROKEN, b"{} {}", b'{"a":1}x'])
def test_broken_json_is_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError, match="^not JSON: "):
        json.parse_object(payload)


@pytest.mark.parametrize("payload", [BYTE_ORDER_MARK + b"{}", "{}".encode("utf-16"), *INVALID_UTF8])
def test_anything_but_utf8_without_a_byte_order_mark_is_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError, match="^not JSON: "):
        json.parse_object(payload)


def test_a_number_of_many_digits_is_refused_or_read_but_never_raises() -> None:
    assert json.parse_object(b'{"a":18446744073709551616}') == {"a": 1 << 64}
    assert json.parse_object(b'{"a":1e400}') == {"a": float("inf")}
    with pytest.raises(PayloadError):
        json.parse_object(b'{"a":' + b"9" * MIB + b"}")


def test_an_escaped_lone_surrogate_is_read_and_can_be_sent_back() -> None:
    fields = json.parse_object(b'{"a":"\\ud800"}')
    assert json.dumps(fields) == b'{"a":"\\ud800"}'


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_raise_nothing_but_payload_errors(payload: bytes) -> None:
    try:
        json.parse_object(payload)
        json.members(json.decode_text(payload))
    except PayloadError:
        pass


@given(NEARLY_JSON | NEARLY_JSON.map(lambda text: '{"a":' + text + "}"))
def test_text_that_is_nearly_json_raises_nothing_but_payload_errors(text: str) -> None:
    for read in (
        lambda: json.parse_object(text.encode("utf-8", "surrogatepass")),
        lambda: json.members(text),
    ):
        try:
            read()
        except PayloadError:
            pass


# ---- depth


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """Make an object that holds values nested so that there are ``depth`` levels in all."""
    return b'{"a":' + opening * (depth - 1) + b"1" + closing * (depth - 1) + b"}"


def test_a_hundred_levels_are_read() -> None:
    assert json.parse_object(nested(100))
    assert json.parse_object(nested(100, b'{"x":', b"}"))


@pytest.mark.parametrize("depth", [101, 2000, 100_000])
def test_more_levels_are_refused_whatever_the_recursion_limit(depth: int) -> None:
    for payload in (nested(depth), nested(depth, b'{"x":', b"}"), nested(depth, b'[{"x":', b"}]")):
        with pytest.raises(PayloadError, match="^JSON nested deeper than 100 levels$"):
            json.parse_object(payload)


def test_only_levels_count_and_not_how_many_brackets_there_are() -> None:
    assert len(json.parse_object(b'{"a":[' + b"[],{}," * 5000 + b"[]]}")["a"]) == 10_001


def test_brackets_in_strings_are_text() -> None:
    text = '[{"' * 200 + "\\"
    payload = stdlib_json.dumps({"a": text, '"' + text: text}).encode()
    assert json.parse_object(payload) == {"a": text, '"' + text: text}


def test_nested_too_deeply_behind_a_string_with_quotes_is_refused() -> None:
    with pytest.raises(PayloadError, match="levels$"):
        json.parse_object(b'{"\\"\\\\":' + b"[" * 200 + b"]" * 200 + b"}")


@pytest.mark.parametrize("levels", [400, 100_000])
def test_the_places_of_members_are_found_or_refused_without_a_recursion_error(levels: int) -> None:
    try:
        (member,) = json.members(nested(levels).decode())
    except PayloadError:
        assert levels > 400
    else:
        assert member.name == "a"


# The time for each of these would be that of a square of a million, were the work
# done again for each quote, bracket or blank.
LARGE = {
    "escaped quotes": b'{"' + b'\\"' * (MIB // 2),
    "escaped quotes behind brackets": b'{"a":"' + b"[" * 200 + b'\\"' * (MIB // 2),
    "escaped quotes and an end": b'{"a":"' + b"[" * 200 + b'\\"' * (MIB // 2) + b'"}',
    "quotes": b"[" * 101 + b'"' * MIB,
    "half a quote each": b"[" * 101 + b'"\\' * (MIB // 2),
    "backslashes": b"[" * 101 + b'"' + b"\\" * MIB,
    "opening brackets": b"[" * MIB,
    "closing brackets": b"]" * MIB,
    "pairs of brackets": b'{"a":[' + b"{}," * (MIB // 3) + b"{}]}",
    "blanks": b"{" + b" " * MIB,
    "blanks between": b'{"a"' + b" \n" * (MIB // 4) + b":1" + b" " * (MIB // 2),
    "many members": b'{"a":1' + b',"a":"xxxxxxxxxxxx"' * (MIB // 19) + b"}",
    "many commas": b'{"a":1' + b"," * MIB,
    "a long number": b'{"a":' + b"1" * MIB,
    "a long fraction": b'{"a":0.' + b"1" * MIB + b"}",
    "a long exponent": b'{"a":1e' + b"1" * MIB + b"}",
}


@pytest.mark.parametrize("payload", LARGE.values(), ids=LARGE.keys())
def test_a_mebibyte_takes_time_in_proportion(payload: bytes) -> None:
    for read in (json.parse_object, lambda raw: json.members(json.decode_text(raw))):
        try:
            read(payload)
        except PayloadError:
            pass


# ---- where members lie


def places(text: str) -> dict[str, str]:
    return {name: text[start:end] for name, start, end in json.members(text)}


def test_members_are_found_as_they_are_written() -> None:
    text = '{ "a":1.50e3 ,\t"\\u0062" : {"x": [ "}" ]} ,"A":"\\"\\u00e9",\r\n"n":null}'
    assert places(text) == {"a": "1.50e3", "b": '{"x": [ "}" ]}', "A": '"\\"\\u00e9"', "n": "null"}


@given(
    st.dictionaries(st.text(LETTERS, max_size=5), JSON_VALUES, max_size=4),
    st.sampled_from([None, 0, 3]),
)
def test_each_place_holds_its_value(value: dict[str, object], indent: int | None) -> None:
    text = stdlib_json.dumps(value, indent=indent)
    assert {name: stdlib_json.loads(found) for name, found in places(text).items()} == value


def test_positions_count_from_the_start_of_the_text_beyond_its_blanks() -> None:
    text = 'é {"x": {"y":2}}'
    (outer,) = json.members(text, 1)
    assert text[outer.start : outer.end] == '{"y":2}'
    (inner,) = json.members(text, outer.start)
    assert text[inner.start : inner.end] == "2"


@pytest.mark.parametrize("text", ["{}", " { } "])
def test_an_empty_object_has_no_members(text: str) -> None:
    assert json.members(text) == []


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b'{"a\n":1}', b'{"a\x1f":1}', *BROKEN])
def test_the_places_in_broken_json_are_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError, match="^not JSON: "):
        json.members(payload.decode())


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "[NaN]", "01", "1.", ".5", "-"])
def test_what_only_some_readers_take_for_a_number_is_refused(number: str) -> None:
    with pytest.raises(PayloadError, match="^not JSON: "):
        json.members(f'{{"a":{number}}}')


def test_a_number_of_a_million_digits_has_a_place() -> None:
    text = '{"a":' + "9" * MIB + "}"
    assert json.members(text) == [("a", 5, 5 + MIB)]


def test_an_escaped_lone_surrogate_has_a_place() -> None:
    assert places('{"\\ud800":"\\udfff"}') == {"\ud800": '"\\udfff"'}


@pytest.mark.parametrize("payload", [*INVALID_UTF8, b'{"a":"\xed\xa0\x80"}'])
def test_text_that_is_not_utf8_is_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError, match="^not JSON: "):
        json.decode_text(payload)


def test_a_byte_order_mark_before_members_is_refused() -> None:
    with pytest.raises(PayloadError, match="^not JSON: "):
        json.members(json.decode_text(BYTE_ORDER_MARK + b"{}"))


def test_values_are_what_is_written_and_numbers_stay_text() -> None:
    text = '{"s":"\\u00e9","t":true,"n":null,"i":-0,"f":1.50e3,"l":[1]}'
    values = {member.name: json.value_of(text, member) for member in json.members(text)}
    assert values == {"s": "é", "t": True, "n": None, "i": "-0", "f": "1.50e3", "l": ["1"]}


@pytest.mark.parametrize("name", ["stdio", "STDIO", "Stdio", "\\u0073tdio", "ſtdio"])
def test_a_member_is_found_in_any_case(name: str) -> None:
    found = json.members(f'{{"std":1,"{name}":2}}')
    assert json.find(found, "stdio") == found[1]


def test_a_member_that_is_not_there_is_not_found() -> None:
    assert json.find(json.members('{"stdi":1,"stdioo":2}'), "stdio") is None


@pytest.mark.parametrize("second", ["data", "DATA", "d\\u0061ta"])
def test_a_member_that_stands_twice_is_refused(second: str) -> None:
    with pytest.raises(PayloadError, match="^'data' stands twice in one object$"):
        json.find(json.members(f'{{"data":1,"x":2,"{second}":1}}'), "data")


@pytest.mark.parametrize("inside", ['"x":1}', "}"])
def test_where_an_object_begins_inside_its_blanks(inside: str) -> None:
    text = '{"process" : {\n\t' + inside + "}"
    (member,) = json.members(text)
    assert text[json.first_inside(text, member) :] == inside + "}"
