"""docs/CLIENT.md names every event with its members."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from ccproxy_lib.client import events
from ccproxy_lib.client.events import Event

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "CLIENT.md"


def test_all_events_stand_in_the_document_with_their_members() -> None:
    told: dict[str, set[str]] = {}
    for names, members in re.findall(r"^\| (`[A-Z].*`) \| (.*)\|$", DOCUMENT.read_text(), re.M):
        for name in re.findall(r"`(\w+)`", names):
            told[name] = set(re.findall(r"`(\w+)`", members))
    common = {each.name for each in fields(Event)}
    classes = [each for each in vars(events).values() if _is_event(each)]
    assert told == {each.__name__: {f.name for f in fields(each)} - common for each in classes}


def _is_event(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Event) and value is not Event
