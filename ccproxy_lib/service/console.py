"""A VM's console: its lines in our log, for those who debug."""

from __future__ import annotations

import logging
import time

from ccproxy_lib.errors import CommandError
from ccproxy_lib.host.logs import tags
from ccproxy_lib.service.dial import dial
from ccproxy_lib.wire.lines import LineSplitter

READ_BYTES = 65536

log = logging.getLogger(__name__)


def follow_console(vm_id: str, path: str, timeout_s: float) -> None:
    """Log what a VM prints, until it hangs up; a greenlet of its own.

    A console that cannot be reached is no reason to do without its VM.
    """
    try:
        console = dial(path, "console", time.monotonic() + timeout_s)
    except CommandError as error:
        log.warning("no console", extra=tags(vm=vm_id, reason=error))
        return
    splitter = LineSplitter()
    try:
        while data := console.receive(READ_BYTES):
            for line in splitter.feed(data):
                log.debug("console: %s", line, extra=tags(vm=vm_id))
    except OSError as error:
        log.debug("console lost", extra=tags(vm=vm_id, reason=error.strerror))
    finally:
        console.close()
