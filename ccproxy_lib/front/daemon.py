"""cc-proxy: passes commands and streams between runtimes, shims and the agents in VMs.

Usage:
  cc-proxy [options]
  cc-proxy demo [--] [COMMAND...]
  cc-proxy agent [options] CTL_SOCKET IO_SOCKET
  cc-proxy shim [options]
  cc-proxy exec [options] VM [--] COMMAND...
  cc-proxy hyper [options] VM NAME [JSON]
  cc-proxy status [options] [VM]
  cc-proxy top [options]
  cc-proxy events [options] [VM]
  cc-proxy log-level [options] LEVEL

The daemon serves many VMs on one socket, or with -uri a single one, and then
ends with it.  'demo' shows it at work on this host; 'agent' is the agent that
the demo uses in the place of a VM (see 'cc-proxy agent --help').  'shim' stands
for cc-shim, 'exec' runs a command in a VM, and 'hyper' asks a VM's agent.
'status', 'top', 'events' and 'log-level' look into a running daemon.

Options:
  --log LEVEL         What to log: debug, info, warn, error, fatal or panic
                      (default: $CC_PROXY_LOG_LEVEL, or warn).
  --v N               The 2.0 way to say it: 1 for info, 2 for debug.
  --log-format FORMAT
                      How to write to stderr: text, logfmt or json (default:
                      text on a terminal, the journal's own fields under systemd,
                      logfmt elsewhere).
  --uri URI           Serve one VM on this socket, like unix:///run/x/proxy.sock,
                      and end after UnregisterVM.
  --socket-path PATH  Listen on this socket, whatever else is said
                      (default: /run/clear-containers/proxy.sock).  A socket that
                      systemd passes is served where it is.
  --ksm MODE          How hard the kernel looks for pages that VMs can share:
                      auto follows the VMs that come, off switches it off,
                      initial leaves it as it is (default: auto; with -uri it
                      is left as it is).  What was set before comes back at exit.
  --ksm-root DIR      The directory that stands for /sys/kernel/mm/ksm.
  --daemonize         Go to the background; the program ends when the daemon's
                      socket answers, or has a status that says that it does not.
                      The log goes to the journal and to syslog.
  --pid-file PATH     Write the daemon's process id to this file, as long as it runs.
  --config FILE       Read settings from this file; flags and environment win over
                      it (default: /etc/clear-containers/cc-proxy.conf, if there).
  --check-config      Check flags, environment and file, print what counts and
                      where it is from, and end.
  --pprof             Serve metrics and debugging by HTTP; see docs/METRICS.md.
  --pprof-host HOST   The address to serve that on (default: localhost), or a
                      Unix socket like unix:///run/x/debug.sock.
  --pprof-port PORT   The port; 0 is a free one (default: 6060).
  --pprof-socket PATH
                      A Unix socket, in the place of address and port.
  --version           Print version and commit.
  --help              Print this help.

Limits (times in seconds, fractions allowed; sizes in bytes, or with K, M, G):
  --ready-timeout S     How long a new VM's agent may take to be ready (30).
  --shim-timeout S      How long a process's start waits for its shim (30).
  --process-timeout S   How long a shim's signal waits for its process (30).
  --command-timeout S   How long an agent may take to answer a command (30).
  --session-buffer N    What a session keeps in memory, each way (1M).
  --session-spool N     What it keeps in a file beyond that; 0 for none (256M).
  --token-ttl S         When a token that no shim claims is freed (600).
  --orphan-ttl S        When an ended session without a shim is freed (3600).
  --max-clients N       Client connections at once (20000).
  --max-vms N           Registered VMs (4096).
  --max-tokens N        Tokens of one VM (16384).
  --max-commands N      Commands waiting for one agent (1024).
  --max-payload N       Bytes in one frame from a client (1M).
  --max-pending N       Bytes of answers that a client has not read (16M).
  --max-json-depth N    How deep JSON from a client may nest (100).
  --frame-timeout S     How long a client may take over one frame (30).
  --log-burst N         Log entries that a client may send at once (1000).
  --log-rate N          Log entries a second of a client beyond that (200).

Each option may be written -x VALUE, -x=VALUE, --x VALUE or --x=VALUE, set in the
environment (CC_PROXY_MAX_VMS for -max-vms, CC_PROXY_LOG_LEVEL for -log), or stand in
the file, without its dashes and as NAME = VALUE: limits in the section [limits], the
others in [proxy].
Exit status: 0 after an orderly end, 1 if the daemon cannot start, 2 for an
unknown flag or a bad value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ccproxy_lib.errors import UsageError
from ccproxy_lib.front.limit_flags import LIMIT_FLAGS, parse_limits
from ccproxy_lib.front.patch import patch
from ccproxy_lib.front.pprof_flags import DEFAULT_HOST, DEFAULT_PORT, PPROF_FLAGS, parse_pprof
from ccproxy_lib.front.settings import Settings
from ccproxy_lib.front.sources import (
    Given,
    from_environment,
    from_file,
    from_flags,
    is_set,
    merge,
)
from ccproxy_lib.host import ksm, logs
from ccproxy_lib.host.listener import DEFAULT_PATH, path_of_uri
from ccproxy_lib.state.ksm import Mode

# What holds where nothing is said, as -check-config shows it; limits have their own.
DEFAULTS = {
    "log": "warn",
    "socket-path": DEFAULT_PATH,
    "ksm": Mode.AUTO.value,
    "ksm-root": ksm.DEFAULT_ROOT,
    "pprof": "false",
    "pprof-host": DEFAULT_HOST,
    "pprof-port": DEFAULT_PORT,
}

# Whether each flag takes a value.
FLAGS = {
    "log": True,
    "v": True,
    "log-format": True,
    "uri": True,
    "socket-path": True,
    "ksm": True,
    "ksm-root": True,
    "daemonize": False,
    "pid-file": True,
    "config": True,
    "check-config": False,
    **PPROF_FLAGS,
    "version": False,
    "help": False,
    "h": False,
    **dict.fromkeys(LIMIT_FLAGS, True),
}


def main(arguments: Sequence[str]) -> int:
    """Run the daemon until it is told to stop; raises UsageError and StartError."""
    flags = from_flags(arguments, FLAGS)
    if is_set(flags, "help") or is_set(flags, "h"):
        print(__doc__.strip())
        return 0
    given = _gather(flags)
    settings = _settings(_options(given))
    if is_set(given, "check-config"):
        from ccproxy_lib.front.config_file import write

        print(write(given, DEFAULTS))
        return 0
    return _serve(settings)


def _gather(flags: Mapping[str, Given]) -> dict[str, Given]:
    """Return what counts of flags, environment and file; UsageError where one is wrong."""
    environment = from_environment(os.environ, FLAGS)
    file = from_file(merge(environment, flags).get("config"), FLAGS)
    # In a file all must be right, also what is overridden elsewhere.
    for each in file.values():
        _check(each)
    given = merge(file, environment, flags)
    for each in given.values():
        if each is environment.get(each.flag):
            _check(each)
    return given


def _check(given: Given) -> None:
    """See whether a setting that is no flag is right by itself; UsageError, and whose, if not."""
    try:
        _settings(_options({given.flag: given}))
    except UsageError as error:
        raise UsageError(f"{error} ({given.origin})") from None


def _options(given: Mapping[str, Given]) -> dict[str, str | None]:
    """Return what is given by the names of the flags; None where there is nothing, or false."""
    options: dict[str, str | None] = dict.fromkeys(f"--{flag}" for flag in FLAGS)
    for flag in given:
        if FLAGS[flag] or is_set(given, flag):
            options[f"--{flag}"] = given[flag].value
    return options


def _settings(options: Mapping[str, str | None]) -> Settings:
    """Return what the options say; UsageError for a bad value."""
    uri = options["--uri"]
    uri_path = path_of_uri(uri) if uri is not None else None
    return Settings(
        path=options["--socket-path"] or uri_path,
        pod=uri is not None,
        daemonize=options["--daemonize"] is not None,
        pid_file=options["--pid-file"] or None,
        log_level=logs.parse_level(options["--log"] or DEFAULTS["log"]),
        log_format=logs.parse_format(options["--log-format"]),
        ksm_mode=_ksm_mode(options["--ksm"]),
        ksm_root=options["--ksm-root"] or DEFAULTS["ksm-root"],
        limits=parse_limits(options),
        pprof=parse_pprof(options),
    )


def _serve(settings: Settings) -> int:
    # Taken at once, by the process that they are meant for.
    passed = manager = None
    if "LISTEN_FDS" in os.environ:
        from ccproxy_lib.host.activation import take_sockets

        passed = take_sockets()
    if "NOTIFY_SOCKET" in os.environ:
        from ccproxy_lib.host.notify import take_manager

        manager = take_manager()
    starter = None
    if settings.daemonize:
        from ccproxy_lib.host.daemonize import detach

        result = detach()
        if isinstance(result, int):
            return result
        starter = result
    patch()
    from ccproxy_lib.front.serving import serve

    serve(settings, passed, manager, starter)
    return 0


def _ksm_mode(flag: str | None) -> Mode:
    if flag is None:
        return Mode.AUTO
    try:
        return Mode(flag)
    except ValueError:
        raise UsageError(f"flag -ksm needs off, initial or auto, got '{flag}'") from None
