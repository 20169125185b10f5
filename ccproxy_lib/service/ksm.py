"""Keeping KSM at what its mode says, and giving the host its own values back.

KSM is a favour to the host: whatever goes wrong with it is logged once, and
the daemon goes on without it.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import time
from collections.abc import Mapping

import gevent
from gevent.event import Event

from ccproxy_lib.host.ksm import Ksm, anonymous_pages
from ccproxy_lib.host.logs import tags
from ccproxy_lib.state.ksm import STAGES, Mode, Phase, Stage, Throttle

# A file that can't be read or written, or has something odd in it.
TROUBLE = (OSError, ValueError)

log = logging.getLogger(__name__)


class KsmTuner:
    """Does what ``mode`` says with ``ksm`` from :meth:`start` until :meth:`stop`.

    None of its methods raises or waits.
    """

    def __init__(self, mode: Mode, ksm: Ksm, stages: Mapping[Phase, Stage] = STAGES) -> None:
        self._mode = mode
        self._ksm = ksm
        self._stages = stages
        self._wake = Event()
        self._stopped = False

    def start(self) -> None:
        """Undo what a daemon that crashed has left, and begin."""
        # For an end that nobody has foreseen.
        atexit.register(self.stop)
        try:
            self._recover()
            self._begin()
        except TROUBLE as error:
            self._give_up(error)

    def vm_registered(self) -> None:
        """Tell that there is one VM more."""
        self._wake.set()

    def stop(self) -> None:
        """Give the host its values back; what happens later changes nothing."""
        atexit.unregister(self.stop)
        self._stopped = True
        self._wake.set()
        try:
            self._ksm.restore()
        except TROUBLE as error:
            log.warning("cannot restore KSM's settings", extra=tags(reason=_reason(error)))

    def _recover(self) -> None:
        try:
            if self._ksm.recover():
                log.warning("KSM's settings restored, which a daemon before us had left behind")
        except ValueError as error:
            fields = tags(path=self._ksm.memory_path, reason=error)
            log.warning("the memory of KSM's settings is damaged and ignored", extra=fields)

    def _begin(self) -> None:
        if self._mode is Mode.OFF:
            self._ksm.apply(self._ksm.read()._replace(run=0))
        elif self._mode is Mode.AUTO:
            self._ksm.read()  # to hear of trouble now, and not with the first VM
            gevent.spawn(self._tune, Throttle(self._stages))

    def _tune(self, throttle: Throttle) -> None:
        """Follow the throttle; the greenlet of mode auto."""
        try:
            while self._wait(throttle):
                self._follow(throttle)
        except TROUBLE as error:
            self._give_up(error)
        except Exception:
            log.exception("tuning KSM failed")

    def _wait(self, throttle: Throttle) -> bool:
        """Wait for a VM or the throttle's time; return False when stopped."""
        next_s = throttle.next_s
        self._wake.wait(None if next_s is None else max(0.0, next_s - time.monotonic()))
        return not self._stopped

    def _follow(self, throttle: Throttle) -> None:
        before = throttle.phase
        if self._wake.is_set():
            self._wake.clear()
            throttle.vm_registered(time.monotonic())
        else:
            throttle.advance(time.monotonic())
        settings = throttle.settings(anonymous_pages())
        if settings is None:
            self._ksm.restore()
        else:
            self._ksm.apply(settings)
        if throttle.phase is not before:
            log.info("KSM", extra=tags(phase=throttle.phase.value))

    def _give_up(self, error: Exception) -> None:
        log.warning("KSM is left alone, as it cannot be set", extra=tags(reason=_reason(error)))
        with contextlib.suppress(*TROUBLE):
            self._ksm.restore()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
