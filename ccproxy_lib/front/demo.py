"""cc-proxy demo: a proxy, an agent in the place of a VM, and a process behind both.

Usage:
  cc-proxy demo [--] [COMMAND...]
  cc-proxy demo --help

Without a COMMAND, a small script shows how its output, its error output, its
input and its exit status travel.  With one, that runs in a terminal session of
its own; its exit status is the demo's.

Nothing is isolated here: the process runs on this host, as you.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType

from docopt import docopt

from ccproxy_lib.client import Client, Shim
from ccproxy_lib.client.carrier import Carrier
from ccproxy_lib.client.signals import Signals
from ccproxy_lib.client.terminal import raw_mode, window_size
from ccproxy_lib.errors import ProxyError, StartError, UsageError

VM_ID = "demo-vm"
CONTAINER_ID = "demo"
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
POLL_S = 0.01

# What ends the demo, with everything behind it.
ENDING_SIGNALS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM})
HELP_FLAGS = frozenset({"-h", "-help", "--help"})
# What the proxy warns of, like an interrupted shim, is no news here.
QUIET = {"CC_PROXY_LOG_LEVEL": "error"}

SCRIPT = """\
echo "Hello from process $$, on its standard output."
echo "And this on its standard error." >&2
read line
echo "It read from its standard input: $line"
exit 7
"""
SCRIPT_STATUS = 7
SCRIPT_STDIN = b"a line that the shim sent\n"


def main(arguments: Sequence[str]) -> int:
    """Run the demo; return 0, or the exit status of the user's command."""
    # Options behind the command are the command's own.
    options = docopt(__doc__, list(arguments), default_help=False, options_first=True)
    command = options["COMMAND"]
    flag = command[0] if command and not options["--"] else ""
    if flag in HELP_FLAGS:
        print(__doc__.strip())
        return 0
    if flag.startswith("-"):
        raise UsageError(f"unknown flag {flag}: see demo -help")
    _hold_signals_back()
    try:
        with _proxy_and_agent() as (proxy_path, ctl_path, io_path):
            if command:
                return _session(proxy_path, ctl_path, io_path, command)
            with _interruptible():
                return _show(proxy_path, ctl_path, io_path)
    except KeyboardInterrupt as interrupt:
        with suppress(OSError):  # a hangup leaves no terminal to write to
            print("\ninterrupted; everything is cleaned up", file=sys.stderr)
        return 128 + int(interrupt.args[0])
    except ProxyError as error:
        raise StartError(f"the demo failed: {error}") from None


# ---- the signals that end it


def _hold_signals_back() -> None:
    """Let them wait for the places that an exception leaves in order."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let them come; each that does is a KeyboardInterrupt."""
    try:
        _release_signals()
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in ENDING_SIGNALS:
        # Once is enough.  Python complains of SIG_IGN for a signal that is on its way.
        signal.signal(each, lambda *_: None)
    raise KeyboardInterrupt(number)


# ---- what it shows


def _show(proxy_path: str, ctl_path: str, io_path: str) -> int:
    _say(f"The proxy listens on    {proxy_path}")
    _say(f"The agent's control is  {ctl_path}")
    _say(f"The agent's streams are {io_path}")
    with Client(proxy_path) as runtime, Signals(()) as signals:
        (token,) = runtime.register_vm(VM_ID, ctl_path, io_path, streams=1)
        _say(f"runtime: RegisterVM {VM_ID}: the proxy has reached the agent and gives one token")
        carrier = Carrier(None)
        with Shim(proxy_path, token, sink=carrier.keep) as shim:
            _say("shim:    ConnectShim with that token: the proxy now knows where streams go")
            runtime.hyper("newcontainer", _container(["sh", "-c", SCRIPT]), token)
            _say("runtime: Hyper newcontainer: the agent has started a process; it says:")
            shim.stdin.write(SCRIPT_STDIN)
            shim.stdin.close()
            status = carrier.run(shim, signals)
        _say(f"shim:    ProcessExited with status {status}, behind the last byte of output")
        runtime.unregister_vm(VM_ID)
        _say("runtime: UnregisterVM: the proxy lets the agent go")
    if status != SCRIPT_STATUS:
        raise ProxyError(f"the script's exit status is {status} instead of {SCRIPT_STATUS}")
    in_checkout = os.path.basename(sys.argv[0]) == "ccproxy.py"
    program = "./ccproxy.py" if in_checkout else "cc-proxy"
    _say(f"That was the whole way. Try:  {program} demo -- bash")
    return 0


def _session(proxy_path: str, ctl_path: str, io_path: str, command: list[str]) -> int:
    """Run the user's command, on a terminal if there is one."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    source = sys.stdin.fileno()
    with Client(proxy_path) as runtime, ExitStack() as stack:
        with _interruptible():
            (token,) = runtime.register_vm(VM_ID, ctl_path, io_path, streams=1)
            signals = stack.enter_context(Signals({signal.SIGWINCH}))
            carrier = Carrier(source)
            shim = stack.enter_context(Shim(proxy_path, token, sink=carrier.keep))
            runtime.hyper("newcontainer", _container(command, terminal), token)
        if terminal:
            stack.enter_context(raw_mode(source))
            carrier.size = partial(window_size, source)
        carrier.forward(signal.SIGWINCH)
        with _interruptible():
            status = carrier.run(shim, signals)
        stack.close()
        runtime.unregister_vm(VM_ID)
    return status


def _container(command: list[str], terminal: bool = False) -> dict[str, object]:
    environment = [{"env": name, "value": value} for name, value in os.environ.items()]
    process = {
        "args": command,
        "envs": environment,
        "workdir": os.getcwd(),
        "terminal": terminal,
    }
    return {"id": CONTAINER_ID, "rootfs": "/", "image": "", "process": process}


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


# ---- the two programs behind it


@contextmanager
def _proxy_and_agent() -> Iterator[tuple[str, str, str]]:
    """Start both programs; stop them and remove every trace at the end."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="ccproxy-demo-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        proxy_path, ctl_path, io_path = (str(directory / name) for name in ("proxy", "ctl", "io"))
        agent = stack.enter_context(_program("agent", "--quiet", ctl_path, io_path))
        daemon = stack.enter_context(_program("-socket-path", proxy_path, "-ksm", "initial"))
        # The agent's sockets are for one client each, and listen when they appear.
        _wait_for(agent, lambda: os.path.exists(ctl_path) and os.path.exists(io_path))
        _wait_for(daemon, lambda: _listens(proxy_path))
        yield proxy_path, ctl_path, io_path


@contextmanager
def _program(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    # A session of its own, so that Ctrl-C reaches the demo alone, which then stops it.
    program = subprocess.Popen(
        [sys.executable, "-m", "ccproxy_lib", *arguments],
        env=QUIET | os.environ | {"PYTHONPATH": _import_path()},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_release_signals,  # noqa: PLW1509 (the demo has no threads)
    )
    try:
        yield program
    finally:
        program.terminate()
        try:
            program.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def _import_path() -> str:
    top = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, [top, os.environ.get("PYTHONPATH")]))


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def _wait_for(program: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if program.poll() is not None:
            raise StartError("a program behind the demo did not start; see its message above")
        if time.monotonic() > deadline_s:
            raise StartError(f"a program behind the demo was not ready in {START_TIMEOUT_S:g} s")
        with _interruptible():
            time.sleep(POLL_S)
