"""How cost grows with the number of sessions and of VMs: one table, of processor time.

Usage: growth.py KIT [PYTHON]

KIT is the folder of the load generator, with its programs built. For each size
some sessions echo, which all are there and idle otherwise, and some commands are
called; the figures are microseconds of the daemon's processor time, medians of
three runs.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
ROUNDS = 3
SECONDS = "0.5"
START_TIMEOUT_S = 10.0
# (VMs, sessions)
SIZES = ((1, 1), (1, 10), (1, 100), (1, 1000), (10, 1000), (100, 1000), (300, 1000))


@contextmanager
def daemon(python: str, processor: int) -> Iterator[tuple[str, int]]:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "proxy.sock")
        program = subprocess.Popen(
            [python, TOP / "ccproxy.py", "-socket-path", path, "-log", "error", "-ksm", "initial"]
        )
        os.sched_setaffinity(program.pid, {processor})
        try:
            _wait_for(path)
            yield path, program.pid
        finally:
            program.terminate()
            program.wait()


def _wait_for(path: str) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == 0:
                return
        if time.monotonic() > deadline_s:
            sys.exit("the daemon does not answer")
        time.sleep(0.01)


def run(kit: Path, python: str, scenario: str, figure: str, *options: str) -> float:
    """Return the median of a figure of the load generator's."""
    *_, load_processor = processors = sorted(os.sched_getaffinity(0))
    found = []
    for _ in range(ROUNDS):
        with daemon(python, processors[0]) as (path, pid):
            command = [kit / "build" / "ccload", "--sock", path, "--pid", str(pid), "--spin"]
            command += ["--scenario", scenario, "--seconds", SECONDS, *options]
            pinned = ["taskset", "-c", str(load_processor), *map(str, command)]
            result = json.loads(subprocess.run(pinned, stdout=subprocess.PIPE, check=False).stdout)
            if not result["ok"]:
                sys.exit(f"{scenario} {' '.join(options)}: {result['error']}")
            found.append(result[figure])
    return statistics.median(found)


def main(arguments: list[str]) -> None:
    if not arguments:
        sys.exit(__doc__.strip())
    kit, python = Path(arguments[0]), [*arguments[1:], sys.executable][0]
    print("| VMs | sessions | echo, all at once | output of 64 bytes | a command, 16 clients |")
    print("|---:|---:|---:|---:|---:|")
    for vms, sessions in SIZES:
        size = ("--vms", str(vms))
        of_vm = ("--sessions", str(sessions))
        echo = run(kit, python, "echo", "cpu_us_per_rt", "--size", "64", *size, *of_vm)
        out = run(kit, python, "stdout", "cpu_us_per_msg", "--size", "64", *size, *of_vm)
        call = run(kit, python, "ctl", "cpu_us_per_cmd", "--clients", "16", *size)
        print(f"| {vms} | {sessions} | {echo:.1f} | {out:.2f} | {call:.1f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
