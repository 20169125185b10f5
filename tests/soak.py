#!/usr/bin/env python3
"""Load a real daemon with everything at once, at random, and check every byte.

Usage: tests/soak.py [MINUTES [SEED]]

VMs come, run many sessions and go: unregistered, dead, or killed.  Shims are slow, drop
and come back with their token; runtimes vanish in the middle of a command; hostile
clients send what they like.  In the end nothing may be left, and nothing have been
wrong.  A seed gives each thread the same choices again, though not the same timing.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP))

from ccproxy_lib.wire.frames import Command, Type  # noqa: E402 (needs the path)
from fuzz.mutator import mutate  # noqa: E402
from tests.e2e.busy_vm import KILLED, BusyVm, numbers  # noqa: E402
from tests.e2e.client1 import Client1  # noqa: E402
from tests.e2e.harness import (  # noqa: E402
    Client,
    Daemon,
    SandboxVm,
    container,
    process,
    wait_until,
)

KIB = 1 << 10
MIB = 1 << 20

BUSY_PODS = 4
SANDBOX_PODS = 2
V1_PODS = 1
HOSTILES = 2
SESSIONS_AT_ONCE = 4
SESSIONS_PER_LIFE = 12

# Short, so that what waits in vain does not outlast the run.
FLAGS = (
    *("-log", "info", "-session-buffer", "128K", "-session-spool", "4M"),
    *("-shim-timeout", "3", "-process-timeout", "3", "-frame-timeout", "2"),
)
TOKEN = re.compile(r"[\w-]{43}=")
MOST_RESIDENT_BYTES = 300 * MIB
MOST_GROWTH_BYTES = 48 * MIB


class Soak:
    """The daemon under load, what has happened so far, and what was wrong."""

    def __init__(self, directory: Path, minutes: float, seed: int):
        self.directory = directory
        self.daemon = Daemon(directory, *FLAGS)
        self.seed = seed
        self.ends_s = time.monotonic() + minutes * 60
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.tokens: set[str] = set()
        # A process that is being started has our descriptors for a moment, so that what
        # is closed then is not closed for the daemon.
        self.starting = threading.Lock()
        self._lock = threading.Lock()
        self._next = 0

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.ends_s or bool(self.failures)

    def name(self) -> str:
        """A name that nothing else has."""
        with self._lock:
            self._next += 1
            return f"n{self._next}"

    def count(self, what: str, by: int = 1) -> None:
        with self._lock:
            self.counts[what] += by

    def note_tokens(self, tokens: list[str]) -> list[str]:
        with self._lock:
            self.tokens.update(tokens)
        return tokens

    def fail(self, where: str) -> None:
        with self._lock:
            self.failures.append(f"{where}:\n{traceback.format_exc()}")

    def repeat(self, actor: Callable[[Soak, random.Random], None], number: int) -> None:
        """Let an actor act until it is over; the body of a thread."""
        chance = random.Random(f"{self.seed}/{actor.__name__}/{number}")
        while not self.over:
            try:
                actor(self, chance)
            except Exception:
                self.fail(f"{actor.__name__} {number}")


# ---- VMs and their lives


class Pod:
    """One registered VM.

    Once it is ``doomed`` everything of it may end at any time; once it is ``leaving``
    only what has been started goes on.
    """

    def __init__(self, soak: Soak, vm: BusyVm | SandboxVm):
        self.soak = soak
        self.vm = vm
        self.id = soak.name()
        self.can_exec = isinstance(vm, BusyVm)
        self.doomed = False
        self.leaving = False
        self.runtime = soak.daemon.client()
        self.runtime.register(vm, self.id)

    def live(self, chance: random.Random) -> None:
        """Run sessions until one of the ends that a VM can have."""
        seeds = iter([chance.random() for _ in range(SESSIONS_PER_LIFE)])
        lock = threading.Lock()

        def work() -> None:
            while not self.leaving and not self.doomed and not self.soak.over:
                with lock:
                    seed = next(seeds, None)
                if seed is None:
                    return
                Session(self, random.Random(seed)).run()

        threads = [threading.Thread(target=work) for _ in range(SESSIONS_AT_ONCE)]
        for thread in threads:
            thread.start()
        end = chance.choice([self._outlive, self._outlive, self._unregister_early, self._die])
        end(threads, chance)
        for thread in threads:
            thread.join()
        self.soak.count(end.__name__.removeprefix("_"))

    def _outlive(self, threads: list[threading.Thread], chance: random.Random) -> None:
        for thread in threads:
            thread.join()
        self.runtime.unregister(self.id)

    def _unregister_early(self, threads: list[threading.Thread], chance: random.Random) -> None:
        threads[0].join(chance.uniform(0, 2))
        self.leaving = True
        self.runtime.unregister(self.id)

    def _die(self, threads: list[threading.Thread], chance: random.Random) -> None:
        threads[0].join(chance.uniform(0, 2))
        self.doomed = True
        self.vm.stop()

    def close(self) -> None:
        self.doomed = True
        self.runtime.close()
        if not isinstance(self.vm, BusyVm) or Path(self.vm.ctl_path).exists():
            self.vm.stop()


def busy_pod(soak: Soak, chance: random.Random) -> None:
    """The life of a VM that pretends."""
    _live(Pod(soak, BusyVm(soak.directory, soak.name())), chance)


def sandbox_pod(soak: Soak, chance: random.Random) -> None:
    """The life of a sandbox agent, with real processes."""
    flags = [flag for flag in ("--next", "--strict-json") if chance.random() < 0.5]
    with soak.starting:
        vm = SandboxVm(soak.directory / soak.name(), *flags)
    _live(Pod(soak, vm), chance)


def _live(pod: Pod, chance: random.Random) -> None:
    try:
        pod.live(chance)
    finally:
        pod.close()


# ---- sessions


class Session:
    """One token, from its allocation to the end of its process, in one of many ways."""

    def __init__(self, pod: Pod, chance: random.Random):
        self.pod = pod
        self.soak = pod.soak
        self.chance = chance
        self.started = False
        self.dropped = False

    def run(self) -> None:
        way = self.chance.choice(WAYS)
        try:
            with self.soak.daemon.client() as self.runtime:
                (self.token,) = self.soak.note_tokens(self.runtime.attach(self.pod.id, 1))
                self.shim = self.soak.daemon.shim(self.token)
                try:
                    way(self)
                finally:
                    self.shim.close()
            self.soak.count(way.__name__)
        except Exception as error:
            if not self._excused(error):
                self.soak.fail(f"{way.__name__} (started: {self.started}) on {self.pod.id}")

    def _excused(self, error: Exception) -> bool:
        """Whether it may end so because its VM has ended, or is about to."""
        if isinstance(error, (Wrong, TimeoutError)):
            return False
        self.soak.count("cut off")
        return self.pod.doomed or (self.pod.leaving and (self.dropped or not self.started))

    def start(self, *args: str) -> None:
        self.runtime.hyper_command(*self._order(args))
        self.runtime.answer()
        self.started = True

    def _order(self, args: tuple[str, ...]) -> tuple[str, dict, str]:
        if self.pod.can_exec and self.chance.random() < 0.5:
            return "execcmd", {"container": "any", "process": process(*args)}, self.token
        return "newcontainer", container(self.soak.name(), *args), self.token

    def drop(self, half_first: bool = True) -> None:
        """Be gone without DisconnectShim, and come back with the token.

        With ``half_first`` close the sending side before all, at times.  The daemon
        cannot tell what such a shim has read, so no process may have ended by then.
        """
        if half_first and self.chance.random() < 0.5:
            self.shim.socket.shutdown(socket.SHUT_WR)
        self.dropped = True
        with self.soak.starting:
            self.shim.close()
        self.soak.count("drops")
        if self.chance.random() < 0.3:
            time.sleep(self.chance.uniform(0, 0.2))  # meanwhile output waits for us
        self.shim = self.soak.daemon.shim(self.token)
        self.dropped = False

    def data(self, most_bytes: int) -> bytes:
        return self.chance.randbytes(self.chance.randint(1, most_bytes))

    def send(self, data: bytes) -> None:
        self.shim.stdin_in_frames(data, self.chance.choice([100, 5000, 50_000]))
        self.soak.count("bytes in", len(data))

    def read_back(self, data: bytes) -> None:
        """Read as much output, which must be the same."""
        got = b""
        while len(got) < len(data):
            frame = self.shim.frame()
            if frame is None or frame.type == Type.NOTIFICATION:
                raise Ended
            got += frame.payload
        if got != data:
            raise Wrong("echo")
        self.soak.count("bytes out", len(got))

    def collect(self, slow: bool = False) -> tuple[bytes, bytes, int]:
        if slow:
            self.shim = SlowClient(self.shim, self.chance)
        stdout, stderr, status = self.shim.collect()
        self.soak.count("bytes out", len(stdout) + len(stderr))
        return stdout, stderr, status

    def expect(self, stdout: bytes, stderr: bytes, status: int, slow: bool = False) -> None:
        """Everything must come, unless the VM dies; then what comes must be its beginning."""
        got = self.collect(slow)
        if got == (stdout, stderr, status):
            return
        whole = not self.pod.doomed and (self.started or not self.pod.leaving)
        beginning = stdout.startswith(got[0]) and stderr.startswith(got[1])
        if whole or not beginning or got[2] != 255:
            sizes = [len(each) for each in (stdout, got[0], stderr, got[1])]
            raise Wrong(f"expected and got {sizes}, status {status} and {got[2]}, {beginning=}")


class Ended(Exception):
    """A process is over that should not be."""


class Wrong(Exception):
    """What came is not what was sent."""


class SlowClient(Client):
    """A shim that is slow to read, on the connection of another."""

    def __init__(self, shim: Client, chance: random.Random):
        self.socket = shim.socket
        self.parser = shim.parser
        self.frames = shim.frames
        self._chance = chance

    def frame(self):
        if self._chance.random() < 0.1:
            time.sleep(self._chance.uniform(0, 0.05))
        return super().frame()


def echo(session: Session) -> None:
    """cat, in several rounds, with the shim gone between some of them."""
    session.start("cat")
    for _ in range(session.chance.randint(1, 5)):
        data = session.data(200 * KIB)
        session.send(data)
        session.read_back(data)
        if session.chance.random() < 0.4:
            session.drop()
    session.shim.stdin(b"")
    session.expect(b"", b"", 0)


def digest(session: Session) -> None:
    """sha256sum of a lot of stdin, with the shim gone in the middle."""
    session.start("sha256sum")
    expected = hashlib.sha256()
    for _ in range(session.chance.randint(1, 6)):
        data = session.data(300 * KIB)
        expected.update(data)
        session.send(data)
        if session.chance.random() < 0.3:
            session.drop()
    session.shim.stdin(b"")
    session.expect(f"{expected.hexdigest()}  -\n".encode(), b"", 0)


def early_input(session: Session) -> None:
    """All of stdin before the process runs."""
    data = session.data(100 * KIB)
    session.send(data)
    session.shim.stdin(b"")
    if session.chance.random() < 0.3:
        session.drop()
    session.start("cat")
    session.expect(data, b"", 0)


def output(session: Session) -> None:
    """A lot of stdout, read fast or slowly."""
    # Now and then more than the buffer and the spool hold, so that the VM must wait.
    count = session.chance.choice([1000, 100_000, 300_000, 900_000])
    session.start("seq", "1", str(count))
    session.expect(numbers(count), b"", 0, slow=session.chance.random() < 0.5)


def both_outputs(session: Session) -> None:
    """stdout and stderr."""
    count = session.chance.randint(1, 50_000)
    session.start("sh", "-c", f"seq 1 {count} >&2; seq 1 {count}")
    session.expect(numbers(count), numbers(count), 0, slow=session.chance.random() < 0.2)


def status_only(session: Session) -> None:
    """An exit status, which is read on a second connection at times."""
    status = session.chance.randrange(256)
    session.start("sh", "-c", f"exit {status}")
    if session.chance.random() < 0.3:
        session.drop(half_first=False)
    session.expect(b"", b"", status)


def killed(session: Session) -> None:
    """A signal ends the process; it can be sent by the shim of a container only."""
    number = session.chance.choice([9, 15])
    session.runtime.hyper(
        "newcontainer", container(session.soak.name(), "sleep", "600"), session.token
    )
    session.started = True
    session.shim.command(Command.SIGNAL, {"signalNumber": number})
    session.expect(b"", b"", KILLED + number)


def killed_before_start(session: Session) -> None:
    """A shim that is told to end before there is a process."""
    session.send(session.data(10 * KIB))
    session.shim.command(Command.SIGNAL, {"signalNumber": 9})
    session.expect(b"", b"", 0)


def vanished_runtime(session: Session) -> None:
    """The runtime sends the start and is gone; the process runs all the same."""
    count = session.chance.randint(1, 1000)
    session.runtime.hyper_command(*session._order(("seq", "1", str(count))))
    session.runtime.close()
    session.expect(numbers(count), b"", 0)


def disconnected(session: Session) -> None:
    """DisconnectShim while the process runs: its output goes nowhere."""
    session.start("seq", "1", "100000")
    session.shim.command(Command.DISCONNECT_SHIM)
    while session.shim.frame() is not None:
        pass


def abandoned(session: Session) -> None:
    """A shim that never comes back."""
    session.start("seq", "1", "100000")


def output_for_nobody(session: Session) -> None:
    """A process without a token, while commands go on."""
    order = container(session.soak.name(), "seq", "1", "1000")
    session.runtime.hyper("newcontainer", order)
    for _ in range(5):
        session.runtime.hyper("ping")


WAYS = (
    *(echo, digest, early_input, output, both_outputs, status_only, killed),
    *(killed_before_start, vanished_runtime, disconnected, abandoned, output_for_nobody),
)


# ---- others


def v1_pod(soak: Soak, chance: random.Random) -> None:
    """A VM and its sessions by protocol 1."""
    vm = BusyVm(soak.directory, soak.name())
    try:
        with Client1(soak.daemon.path) as client:
            vm_id = soak.name()
            client.hello(vm, vm_id)
            for _ in range(chance.randint(1, 5)):
                _v1_session(soak, chance, client)
            if chance.random() < 0.5:
                client.call("bye", {"containerId": vm_id})
    finally:
        vm.stop()


def _v1_session(soak: Soak, chance: random.Random, client: Client1) -> None:
    data = chance.randbytes(chance.randint(1, 100 * KIB))
    with client.allocate(2) as descriptor:
        base = descriptor.io_base
        client.hyper("newcontainer", container("c", "cat", stdio=base, stderr=base + 1))
        descriptor.stdin(data)
        if chance.random() < 0.2:
            return
        descriptor.end_stdin()
        if descriptor.collect() != (data, b"", 0):
            raise Wrong("echo by protocol 1")
    soak.count("v1 sessions")


CORPUS = [
    path.read_bytes()
    for name in ("frames", "messages", "payloads", "connection")
    for path in sorted((TOP / "tests" / "corpus" / name).iterdir())
]


def hostile(soak: Soak, chance: random.Random) -> None:
    """Send anything, then go, or wait to be shown the door."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(soak.daemon.path)
            for _ in range(chance.randint(1, 4)):
                client.sendall(mutate(chance, CORPUS))
            if chance.random() < 0.3:
                client.shutdown(socket.SHUT_WR)
            if chance.random() < 0.5:
                client.recv(4 * KIB)
        except OSError:
            pass
    soak.count("hostile clients")


def vanishing(soak: Soak, chance: random.Random) -> None:
    """Register a VM that is not there, or never ready, and do not wait for the answer."""
    path = str(soak.directory / soak.name())
    with socket.socket(socket.AF_UNIX) as listener, soak.daemon.client() as client:
        if chance.random() < 0.5:
            listener.bind(path)
            listener.listen(1)
        members = {"containerId": soak.name(), "ctlSerial": path, "ioSerial": path}
        client.command(Command.REGISTER_VM, members | {"numIOStreams": 2})
        client.send(Type.COMMAND, Command.HYPER, b'{"hyperName":"ping"}')
        time.sleep(chance.uniform(0, 0.1))
    if os.path.exists(path):
        os.unlink(path)
    soak.count("vanished runtimes")


# ---- the run


def threads_of(soak: Soak) -> list[threading.Thread]:
    """One thread for each actor."""
    actors = [busy_pod] * BUSY_PODS + [sandbox_pod] * SANDBOX_PODS + [v1_pod] * V1_PODS
    actors += [hostile] * HOSTILES + [vanishing]
    return [
        threading.Thread(target=soak.repeat, args=(actor, number))
        for number, actor in enumerate(actors)
    ]


def resident_bytes(soak: Soak) -> int:
    """How much memory the daemon has."""
    with open(f"/proc/{soak.daemon.pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def watch_memory(soak: Soak) -> list[int]:
    """Look once a second how much memory the daemon has, until it is over."""
    seen = [resident_bytes(soak)]
    while not soak.over:
        time.sleep(1)
        seen.append(resident_bytes(soak))
    return seen


def check_end(soak: Soak, descriptors: int, greenlets: int, resident: list[int]) -> None:
    """Everything that has come must be gone, and the log say nothing that it should not."""
    daemon = soak.daemon
    wait_until(lambda: daemon.descriptors() <= descriptors, "the daemon has closed everything")
    wait_until(lambda: daemon.greenlets() <= greenlets, "no greenlet waits any more")
    early = max(resident[: len(resident) // 3 + 1])
    late = max(resident[-len(resident) // 3 :])
    assert max(resident) < MOST_RESIDENT_BYTES, f"{max(resident)} bytes resident"
    assert late - early < MOST_GROWTH_BYTES, f"grown from {early} to {late} bytes resident"
    assert daemon.stop() == 0, "the daemon has not ended in order"
    assert "Traceback" not in daemon.log, "a traceback in the log"
    assert not set(TOKEN.findall(daemon.log)) & soak.tokens, "a token in the log"


def main() -> int:
    """Run the command line."""
    minutes = float(sys.argv[1]) if sys.argv[1:] else 1.0
    seed = int(sys.argv[2]) if sys.argv[2:] else random.randrange(1 << 32)
    print(f"soak: {minutes:g} minutes, SEED={seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as directory:
        soak = Soak(Path(directory), minutes, seed)
        descriptors = soak.daemon.descriptors()
        greenlets = soak.daemon.greenlets()
        resident: list[int] = []
        try:
            threads = threads_of(soak)
            for thread in threads:
                thread.start()
            resident = watch_memory(soak)
            for thread in threads:
                thread.join()
            check_end(soak, descriptors, greenlets, resident)
        except Exception:
            soak.fail("the end")
        finally:
            soak.daemon.stop()
        report(soak, resident)
        if soak.failures:
            kept = Path(tempfile.gettempdir()) / f"soak-{seed}.log"
            kept.write_text(soak.daemon.log)
            print(f"soak: FAILED; the daemon's log is in {kept}")
    return 1 if soak.failures else 0


def report(soak: Soak, resident: list[int]) -> None:
    """Print what was done, and what was wrong."""
    for failure in soak.failures:
        print(failure)
    counts = soak.counts
    moved = (counts.pop("bytes in", 0) + counts.pop("bytes out", 0)) / MIB
    done = ", ".join(f"{what} {count}" for what, count in sorted(counts.items()))
    peak = max(resident, default=0) / MIB
    print(f"soak: {moved:.0f} MiB checked, {peak:.0f} MiB resident at most; {done}")
    print(f"soak: {'FAILED' if soak.failures else 'passed'}, SEED={soak.seed}")


if __name__ == "__main__":
    sys.exit(main())
