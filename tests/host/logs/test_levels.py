"""Levels, from the start and changed later."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable

import pytest

from ccproxy_lib.errors import CommandError, UsageError
from ccproxy_lib.host import log_control, logs
from tests.host.logs.logged import fields, log, logged

# ---- levels


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("debug", logging.DEBUG),
        ("info", logging.INFO),
        ("warn", logging.WARNING),
        ("warning", logging.WARNING),
        ("error", logging.ERROR),
        ("fatal", logging.CRITICAL),
        ("panic", logging.CRITICAL),
        ("0", logging.WARNING),
        ("1", logging.INFO),
        ("2", logging.DEBUG),
    ],
)
def test_level_in_any_case(text: str, level: int) -> None:
    for written in (text, text.upper(), text.capitalize()):
        assert logs.parse_level(written) == level


@pytest.mark.parametrize("text", ["", "loud", "3", "-1", "10", " info", "notset"])
def test_unknown_level(text: str) -> None:
    with pytest.raises(UsageError, match=f"^unknown log level '{text}': use debug, info, "):
        logs.parse_level(text)


def test_lower_levels_are_left_out() -> None:
    def write() -> None:
        log.info("unheard")
        log.warning("heard")

    assert fields(logged(write, logging.WARNING).rstrip("\n"))["msg"] == "heard"


def test_only_the_last_set_up_counts() -> None:
    before = io.StringIO()
    logs.set_up(logging.DEBUG, before)
    assert logged(lambda: log.info("once")).count("once") == 1
    assert before.getvalue() == ""


# ---- levels that change


def messages(write: Callable[[], None], level: int = logging.INFO) -> list[str]:
    return [str(fields(line)["msg"]) for line in logged(write, level).splitlines()]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("debug", "debug"),
        ("INFO", "info"),
        ("warning", "warn"),
        (logging.WARNING, "warn"),
        ("error", "error"),
        ("panic", "fatal"),
        ("2", "debug"),
    ],
)
def test_the_level_by_name(given: str | int, told: str) -> None:
    logs.set_level(given)
    assert logs.level_name() == told


def test_the_level_changes_at_once() -> None:
    def write() -> None:
        log.debug("before")
        logs.set_level("debug")
        log.debug("while")
        logs.set_level("error")
        log.warning("after")

    assert messages(write) == ["while"]


def test_one_vm_or_container_may_say_more() -> None:
    def write() -> None:
        logs.set_level_for("c1", "debug")
        for vm, container in (("c1", ""), ("c2", ""), ("c2", "c1"), ("c1", "c2")):
            log.debug("%s/%s", vm, container, extra=logs.tags(vm=vm, container=container))
        log.debug("nobody")
        log.info("all", extra=logs.tags(vm="c2"))
        logs.set_level_for("c1", None)
        log.debug("back", extra=logs.tags(vm="c1"))
        assert not log.isEnabledFor(logging.DEBUG)

    assert messages(write) == ["c1/", "c2/c1", "c1/c2", "all"]


def test_a_higher_level_for_one_hides_nothing() -> None:
    def write() -> None:
        logs.set_level_for("c1", "fatal")
        log.info("said", extra=logs.tags(vm="c1"))
        logs.set_level_for("c1", None)

    assert messages(write) == ["said"]


def test_who_wants_debug() -> None:
    logs.set_level("info")
    assert not logs.wants(logging.DEBUG, "c1")
    logs.set_level_for("c1", "debug")
    assert logs.wants(logging.DEBUG, "c1")
    assert logs.wants(logging.DEBUG, "c2", "c1")
    assert not logs.wants(logging.DEBUG, "c2", "")
    assert logs.wants(logging.INFO)
    logs.set_level_for("c1", None)


def test_only_so_many_have_a_level_of_their_own() -> None:
    for number in range(log_control.MAX_IDS):
        logs.set_level_for(f"c{number}", "debug")
    try:
        with pytest.raises(CommandError, match="1000 VMs and containers have a log level"):
            logs.set_level_for("more", "debug")
        logs.set_level_for("c1", "info")
    finally:
        for number in range(log_control.MAX_IDS):
            logs.set_level_for(f"c{number}", None)
    logs.set_level_for("never", None)
