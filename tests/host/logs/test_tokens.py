"""No token is logged."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.host import log_formats, logs
from ccproxy_lib.host.log_record import MAX_TEXT_CHARS
from tests.host.logs.logged import fields, log, logged


@given(
    st.binary(min_size=32, max_size=32),
    st.text(st.characters()) | st.text("aA0-_= ", max_size=50),
    st.text(st.characters()),
    st.sampled_from(log_formats.FORMATS),
)
def test_a_token_is_hidden_wherever_it_stands(
    secret: bytes, before: str, behind: str, line_format: str
) -> None:
    token = base64.urlsafe_b64encode(secret).decode()
    text = before + token + behind

    def write() -> None:
        try:
            raise KeyError(text)
        except KeyError:
            log.exception("%s", text, extra=logs.tags(why=text))

    assert token not in logged(write, line_format=line_format)


@pytest.mark.parametrize("shift", range(46))
def test_a_token_that_is_cut_is_hidden_too(shift: int) -> None:
    token = "T" * 43 + "="
    text = "-.-." * (MAX_TEXT_CHARS // 4) + token * 300
    line = logged(lambda: log.info("%s", text[shift:]))
    assert "TT" not in line


def test_what_only_looks_like_a_token_stays() -> None:
    container = "0123456789abcdef" * 4
    line = logged(lambda: log.info("x", extra=logs.tags(container=container, a="b=c")))
    assert line.endswith(f' container={container} a="b=c"\n')


def test_a_traceback_is_one_field() -> None:
    def write() -> None:
        try:
            raise ValueError("our bug")
        except ValueError:
            log.exception("failed")

    line = logged(write)
    assert line.count("\n") == 1
    assert fields(line[:-1])["traceback"].endswith("\nValueError: our bug")
