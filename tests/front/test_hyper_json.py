"""What hyper --json prints is JSON, whatever the agent answers."""

from __future__ import annotations

import json

import pytest

from ccproxy_lib.front import hyper


@pytest.mark.parametrize("answer", [b"NaN", b"[-Infinity]", b'{"a":1e999}', b"1 2", b"\xff"])
def test_what_only_looks_like_json_is_a_string(answer: bytes) -> None:
    text = json.loads(hyper._one_line(answer))
    assert text == answer.decode("utf-8", "backslashreplace")
