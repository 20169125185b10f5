"""The steps of a session's life in the log: the same fields in each, and never its token."""

from __future__ import annotations

import logging
import time
from typing import Any

from ccproxy_lib.host.logs import tags
from ccproxy_lib.state.registry import Registry
from ccproxy_lib.state.session import BEFORE_PROCESS, Session

log = logging.getLogger(__name__)


def session_tags(session: Session, **more: Any) -> dict[str, dict[str, Any]]:
    """Return the ``extra`` of a log call about a session: what is known of it, then ``more``."""
    fields: dict[str, Any] = {"vm": session.vm.id, "session": session.number}
    if session.container_id:
        fields["container"] = session.container_id
    if session.stdio:
        fields["stdio"] = session.stdio
    return tags(**fields, **more)


def free(registry: Registry, session: Session, reason: str) -> None:
    """Free a session and say so; harmless if that has happened before."""
    if registry.free(session):
        log.info("session freed", extra=session_tags(session, reason=reason))


def free_unused(registry: Registry, session: Session, reason: str) -> None:
    """Free a session that nobody came for, and say so."""
    waited_s = round(time.monotonic() - session.since_s, 3)
    what = "unclaimed token" if session.state in BEFORE_PROCESS else "orphaned session"
    if registry.free(session):
        fields = session_tags(session, reason=reason, waited_s=waited_s)
        log.info("%s freed", what, extra=fields)
