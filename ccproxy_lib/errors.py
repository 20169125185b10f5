"""Every exception of the package, as one tree.

    CCProxyError
    +-- UsageError           the command line is wrong              exit 2
    +-- StartError           the daemon cannot start                exit 1
    +-- ProtocolError        a peer broke its protocol              its connection is closed
    |   +-- PayloadTooLarge  ... with a length over the limit       answered where a response is due
    +-- CommandError         a command is refused or failed         answered, the connection lives
    |   +-- PayloadError     its JSON is broken or lacks something
    |   +-- LimitReached     there is no room for more
    |   +-- DeadlineMissed   what it waited for did not come
    |   |   +-- AgentTimeout the agent's answer
    |   +-- AgentError       the agent answered ERROR
    |   +-- VmGone           the VM went away meanwhile
    +-- ProxyError           in the client: the proxy refuses, or is not there
        +-- ProxyLost        ... there is no proxy, or no longer
        +-- ProxyTimeout     ... it did not answer in time

Each greenlet has one place that catches them.  Anything else that arrives
there is a bug of ours and the only thing that is logged with a traceback.
"""

from __future__ import annotations


class CCProxyError(Exception):
    """Base of all errors that this package raises on purpose."""


class UsageError(CCProxyError):
    """The command line has an unknown flag or a bad value (exit status 2)."""


class StartError(CCProxyError):
    """The daemon cannot start; the text is one sentence that says why (exit status 1)."""


class ProtocolError(CCProxyError):
    """A peer sent bytes that its protocol does not allow."""


class PayloadTooLarge(ProtocolError):
    """A frame announces a payload over the limit.

    ``type`` and ``opcode`` are those of the frame's header, so that a command
    can be answered before the connection is closed.
    """

    def __init__(self, message: str, type: int = 0, opcode: int = 0) -> None:
        super().__init__(message)
        self.type = type
        self.opcode = opcode


class CommandError(CCProxyError):
    """A client's command is refused; the text goes to the client as it is.

    The client's own ``token`` may be part of the text, where ``message`` says
    {token}.  ``reason`` is the text without it, for the log.  ``kind`` is a word
    for those who count refusals.
    """

    kind = "command"

    def __init__(self, message: str, token: str | None = None) -> None:
        super().__init__(message if token is None else message.replace("{token}", token))
        self.reason = message if token is None else message.replace("{token}", "<token>")


class PayloadError(CommandError):
    """A payload is not JSON, or not the JSON that its command needs."""

    kind = "payload"


class LimitReached(CommandError):
    """There is no room for what the client wants; ``kind`` is the flag of the limit."""

    def __init__(self, message: str, flag: str) -> None:
        super().__init__(f"{message} (-{flag})")
        self.kind = flag


class DeadlineMissed(CommandError):
    """What the command waited for did not come; ``kind`` is the flag of the deadline."""

    def __init__(self, message: str, flag: str, token: str | None = None) -> None:
        super().__init__(message, token)
        self.kind = flag


class AgentError(CommandError):
    """The agent answered ERROR; ``text`` is what it said."""

    kind = "agent"

    def __init__(self, text: str) -> None:
        super().__init__(f"ERROR received from VM agent, control msg received : {text}")
        self.text = text


class AgentTimeout(DeadlineMissed):
    """The agent did not answer within the deadline."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "command-timeout")


class VmGone(CommandError):
    """The VM went away before the command was answered."""

    kind = "vm-gone"


class ProxyError(CCProxyError):
    """In the client: the proxy's answer is an error, or there is no proxy to answer."""


class ProxyLost(ProxyError):
    """In the client: nobody listens there, or the connection has ended."""


class ProxyTimeout(ProxyError):
    """In the client: the deadline of a call has passed; what it asked for may still happen."""
