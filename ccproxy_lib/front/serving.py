"""Putting the daemon together from its settings, and running it to its end.

Behind the patch: this is where gevent is loaded.
"""

from __future__ import annotations

import faulthandler
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING

from ccproxy_lib.front.settings import Pprof, Settings
from ccproxy_lib.host import ksm, logs, syslog
from ccproxy_lib.host.listener import DEFAULT_PATH, BoundListener, Listener
from ccproxy_lib.service.ksm import KsmTuner
from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.service.server import Daemon, Report, hold_signals

if TYPE_CHECKING:
    from ccproxy_lib.host.activation import Passed
    from ccproxy_lib.host.daemonize import Starter
    from ccproxy_lib.host.notify import Manager


def serve(
    settings: Settings,
    passed: Passed | None,
    manager: Manager | None,
    starter: Starter | None,
) -> None:
    """Serve until the end; raises StartError.

    The sockets and the manager are what a service manager has given us, and the
    starter is there if we are in the background.
    """
    # The watchdog of systemd ends a daemon that hangs with SIGABRT: then, as with any
    # other fault, stderr gets the stack.
    faulthandler.enable()
    # An end before the daemon looks after signals would leave its files.
    hold_signals()
    with _pid_file(settings.pid_file), closing(_listener(settings.path, passed)) as listener:
        logs.set_up(
            settings.log_level,
            syslog_path=syslog.DEFAULT_PATH if settings.pod or starter else None,
            line_format=settings.log_format,
            detached=starter is not None,
        )
        tuner = None if settings.pod else _tuner(settings, listener.path)
        daemon = Daemon(listener, settings.limits, settings.pod, tuner, _reports(manager, starter))
        with _debugging(settings.pprof, passed, daemon.proxy):
            daemon.run()


def _pid_file(path: str | None) -> AbstractContextManager[object]:
    if path is None:
        return nullcontext()
    from ccproxy_lib.host.pid_file import PidFile

    return closing(PidFile(path))


def _listener(path: str | None, passed: Passed | None) -> Listener:
    if passed is None or passed.clients is None:
        return BoundListener(path or DEFAULT_PATH)
    from ccproxy_lib.host.activation import activated_listener

    return activated_listener(passed.clients, path)


def _debugging(
    wanted: Pprof | None, passed: Passed | None, proxy: Proxy
) -> AbstractContextManager[None]:
    """Serve the HTTP endpoint, if somebody wants it, until the daemon has ended."""
    where: Pprof | int | None = wanted
    if passed is not None and passed.debug is not None:
        where = passed.debug
    if where is None:
        return nullcontext()
    from ccproxy_lib.front.debug_endpoint import serving

    return serving(where, proxy)


def _tuner(settings: Settings, socket_path: str) -> KsmTuner:
    files = ksm.Ksm(settings.ksm_root, socket_path + ksm.MEMORY_SUFFIX)
    return KsmTuner(settings.ksm_mode, files)


def _reports(manager: Manager | None, starter: Starter | None) -> list[Report]:
    reports: list[Report] = [starter] if starter else []
    if manager is not None:
        from ccproxy_lib.service.notify import ManagerReport

        reports.append(ManagerReport(manager))
    return reports
