"""Which errors are kinds of which: what one catch point takes."""

from __future__ import annotations

import inspect

import pytest

from ccproxy_lib import errors
from ccproxy_lib.errors import (
    AgentError,
    AgentTimeout,
    CCProxyError,
    CommandError,
    PayloadError,
    PayloadTooLarge,
    ProtocolError,
    VmGone,
)


def test_all_errors_have_one_root() -> None:
    classes = [found for _, found in inspect.getmembers(errors, inspect.isclass)]
    assert all(issubclass(found, CCProxyError) for found in classes)


@pytest.mark.parametrize("error", [PayloadError, AgentError, AgentTimeout, VmGone])
def test_these_are_answered_and_the_connection_lives(error: type[Exception]) -> None:
    assert issubclass(error, CommandError)
    assert not issubclass(error, ProtocolError)


def test_too_large_a_payload_breaks_the_protocol_and_says_what_to_answer() -> None:
    error = PayloadTooLarge("too long", type=0, opcode=3)
    assert isinstance(error, ProtocolError)
    assert (str(error), error.type, error.opcode) == ("too long", 0, 3)


def test_what_the_agent_said_reaches_the_client_in_the_words_that_clients_know() -> None:
    error = AgentError("no such container")
    assert str(error) == "ERROR received from VM agent, control msg received : no such container"
    assert error.text == "no such container"
