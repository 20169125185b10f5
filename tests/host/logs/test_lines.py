"""Each record is one line, whatever it holds."""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ccproxy_lib.host import log_formats, logs
from ccproxy_lib.host.log_record import MAX_TEXT_CHARS
from tests.host.logs.logged import fields, log, logged


@pytest.mark.parametrize(
    ("level", "word"),
    [
        (logging.DEBUG, "debug"),
        (logging.INFO, "info"),
        (logging.WARNING, "warning"),
        (logging.ERROR, "error"),
        (logging.CRITICAL, "fatal"),
    ],
)
def test_a_line(level: int, word: str) -> None:
    line = logged(lambda: log.log(level, "process %s", "started", extra=logs.tags(vm="c1", seq=7)))
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z "
        rf'level={word} msg="process started" vm=c1 seq=7\n',
        line,
    )


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain-1.2_/@:+,", "plain-1.2_/@:+,"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "no"', r'"say \"no\""'),
        ("back\\slash", r'"back\\slash"'),
        ("one\ntwo\r\n", r'"one\ntwo\r\n"'),
        ("\x00\x1b[31m", r'"\u0000\u001b[31m"'),
        ("\x7f", r'"\u007f"'),
        ("\x85\x9b31m", r'"\u0085\u009b31m"'),
        ("caf\xe9", '"caf\xe9"'),
        ("odd\udcff", r'"odd\udcff"'),
    ],
)
def test_quoting(text: str, quoted: str) -> None:
    line = logged(lambda: log.info("x", extra=logs.tags(value=text)))
    assert line.endswith(f" value={quoted}\n")


@given(st.text(st.characters()), st.text(st.characters()))
@example('" level=fatal msg="forged', "\n")
@example("ends with \\", "\\")
@example("%s", "\ud800")
def test_no_text_breaks_out_of_its_field(message: str, value: str) -> None:
    line = logged(lambda: log.info(message, extra=logs.tags(value=value)))
    assert_one_line(line)
    found = fields(line[:-1])
    assert (found["msg"], found["value"]) == (readable(message), readable(value))
    assert list(found) == ["time", "level", "msg", "value"]


@given(st.text(st.characters()), st.text(st.characters()) | st.integers() | st.floats())
@example("\x85\u2028", float("nan"))
def test_each_line_of_json_is_one_object(message: str, value: Any) -> None:
    line = logged(lambda: log.info(message, extra=logs.tags(value=value)), line_format="json")
    assert_one_line(line)
    found = json.loads(line)
    assert list(found) == ["time", "level", "msg", "value"]
    assert found["level"] == "info"
    assert found["msg"] == message
    assert found["value"] == value or found["value"] == str(value)  # JSON knows no infinity


@given(st.text(st.characters()), st.text(st.characters()))
@example("\x1b[2J\x9b", "\n12:00:00 ERROR forged")
def test_a_line_of_text_stays_one_line(message: str, value: str) -> None:
    line = logged(lambda: log.info(message, extra=logs.tags(value=value)), line_format="text")
    assert_one_line(line)
    assert re.match(r"\d\d:\d\d:\d\d INFO    ", line)
    assert line.endswith(f" value={log_formats.quoted(value)}\n")


def assert_one_line(line: str) -> None:
    assert line.endswith("\n")
    assert line[:-1].splitlines() == [line[:-1]]
    assert not any(unicodedata.category(char) == "Cc" for char in line[:-1])
    line.encode()


def readable(text: str) -> str:
    """What a reader of logfmt makes of it: it has no word for half of a surrogate pair."""
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


def test_json_keeps_numbers_and_truth_values() -> None:
    values = logs.tags(count=3, ratio=0.5, ok=True, nothing=None, name="c1")
    line = logged(lambda: log.info("x", extra=values), line_format="json")
    assert line.endswith(',"count":3,"ratio":0.5,"ok":true,"nothing":null,"name":"c1"}\n')


@pytest.mark.parametrize("line_format", ["logfmt", "json"])
def test_fields_with_names_of_the_lines_own(line_format: str) -> None:
    more = logs.tags(**{"time": 1, "level": 2, "msg": 3, "a b=\n": 4, "": 5})
    line = logged(lambda: log.info("said", extra=more), line_format=line_format)
    found = json.loads(line) if line_format == "json" else fields(line[:-1])
    assert (found["level"], found["msg"]) == ("info", "said")
    others = {name: str(value) for name, value in list(found.items())[3:]}
    assert others == {
        "fields.time": "1",
        "fields.level": "2",
        "fields.msg": "3",
        "a_b__": "4",
        "_": "5",
    }


@pytest.mark.parametrize("line_format", log_formats.FORMATS)
def test_long_texts_are_cut_and_say_so(line_format: str) -> None:
    line = logged(
        lambda: log.info("%s", "x" * 100_000, extra=logs.tags(why="y" * 10_000)),
        line_format=line_format,
    )
    assert len(line) < 3 * MAX_TEXT_CHARS
    assert "x... (100000 characters)" in line
    assert "y... (10000 characters)" in line
