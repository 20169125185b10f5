"""The log for programs, and for eyes."""

from __future__ import annotations

import json
import logging
import os
import re
import select
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from ccproxy_lib.errors import UsageError
from ccproxy_lib.host import logs
from tests.host.logs.logged import fields, log, logged

PATIENCE_S = 30.0


def logged_to_terminal(write: Callable[[], None], **options: Any) -> str:
    master, slave = os.openpty()
    with open(master, "rb", buffering=0) as screen, open(slave, "w") as terminal:
        logs.set_up(logging.DEBUG, terminal, **options)
        write()
        shown = b""
        while not shown.endswith(b"\r\n"):  # which may come behind the rest of the line
            assert select.select([screen], [], [], PATIENCE_S)[0], shown
            shown += screen.read(65536)
        return shown.decode()


def test_on_a_terminal_it_is_for_eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = logged_to_terminal(lambda: log.error("bad news", extra=logs.tags(vm="c1", why="a b")))
    assert re.search(
        r'\x1b\[31m\d\d:\d\d:\d\d ERROR +\x1b\[0m bad news.* vm=c1 why="a b"\r\n', line
    )
    assert "time=" not in line


def test_a_guest_cannot_play_with_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    screen = logged_to_terminal(
        lambda: log.error("%s", "\x1b]0;mine\x07\x9b2J\n", extra=logs.tags(why="\x1b[2J"))
    )
    line = screen.removesuffix("\r\n")
    assert not any(unicodedata.category(char) == "Cc" for char in line), line
    assert r"\u001b]0;mine\u0007" in line


def test_in_a_pipe_it_is_logfmt() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as lines, open(writer, "w") as pipe:
        logs.set_up(logging.DEBUG, pipe)
        log.error("bad news")
        assert fields(lines.read(65536).decode().rstrip("\n"))["msg"] == "bad news"


def test_text_in_a_pipe_has_no_colour() -> None:
    line = logged(lambda: log.error("bad news", extra=logs.tags(vm="c1")), line_format="text")
    assert re.fullmatch(r"\d\d:\d\d:\d\d ERROR   bad news vm=c1\n", line)


def test_a_traceback_in_text_is_for_eyes() -> None:
    def write() -> None:
        try:
            raise ValueError("\x1b[2J")
        except ValueError:
            log.exception("failed")

    first, *rows = logged(write, line_format="text").splitlines()
    assert first.endswith(" ERROR   failed")
    assert rows[0] == "Traceback (most recent call last):"
    assert rows[-1] == r"ValueError: \u001b[2J"


def test_a_format_can_be_asked_for_on_a_terminal() -> None:
    line = logged_to_terminal(lambda: log.error("bad news"), line_format="json")
    assert json.loads(line)["msg"] == "bad news"


@pytest.mark.parametrize("text", ["", "xml", "text,json"])
def test_unknown_format(text: str) -> None:
    with pytest.raises(UsageError, match=f"^unknown log format '{text}': use text, logfmt or json"):
        logs.parse_format(text)


def test_format_in_any_case() -> None:
    assert [logs.parse_format(text) for text in ("JSON", "Text", None)] == ["json", "text", None]
