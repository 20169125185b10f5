#!/usr/bin/env python3
"""Fuzz one target, with atheris where it is installed, or else with a plain mutator.

Usage: fuzz/run.py TARGET|all [-runs=N] [-max_total_time=S] [-seed=N] [-plain=1] [CORPUS]

CORPUS is a directory of inputs to start from (tests/corpus/TARGET unless given), or
files that are fed once each, to see a finding again.  With ``all`` each target has a
run of its own.  What is found, and what atheris
learns, goes to .fuzz/.  Other options are atheris's, see -help=1.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP))

from fuzz.mutator import MAX_BYTES, WORDS, mutate  # noqa: E402 (needs the path)

FOUND = TOP / ".fuzz"
CORPUS = TOP / "tests" / "corpus"
PARSERS = ("frames", "messages", "ctl", "tty", "lines", "generation", "json", "payloads", "process")
CONNECTION = "connection"
TARGETS = (*PARSERS, CONNECTION)
# How long one input may take, many times what the slowest one needs.
PATIENCE_S = 20
DEFAULT_RUNS = 20_000

Target = Callable[[bytes], object]


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    options = dict(each[1:].partition("=")[::2] for each in arguments if each.startswith("-"))
    name, *paths = [each for each in arguments if not each.startswith("-")] or [""]
    if name == "all":
        return fuzz_all(arguments[1:])
    if name not in TARGETS:
        print(__doc__.strip(), "\n\nTargets:", *TARGETS, file=sys.stderr)
        return 2
    FOUND.mkdir(exist_ok=True)
    # The connection target works in a directory of its own.
    places = [Path(path).resolve() for path in paths or [str(CORPUS / name)]]
    atheris = None if options.pop("plain", "") == "1" else _atheris()
    if any(place.is_file() for place in places):
        return feed_files(load(name), places)
    if atheris is None:
        return fuzz_plainly(name, load(name), _read_corpus(places), options)
    fuzz_with_atheris(atheris, name, places, options)
    return 0


def fuzz_with_atheris(
    atheris: Any, name: str, places: Sequence[Path], options: dict[str, str]
) -> None:
    """Let atheris feed inputs; it ends the process itself."""
    with atheris.instrument_imports(include=["ccproxy_lib"]):
        target = load(name)
    learned = FOUND / name
    learned.mkdir(exist_ok=True)
    defaults = {
        "artifact_prefix": f"{FOUND}/{name}-",
        "dict": str(_write_dictionary()),
        "max_len": str(MAX_BYTES),
        "timeout": str(PATIENCE_S),
    }
    flags = [f"-{option}={value}" for option, value in (defaults | options).items()]
    arguments = [name, *flags, str(learned), *map(str, places)]
    atheris.Setup(arguments, lambda data: _quiet(target, data))
    atheris.Fuzz()


def fuzz_all(options: Sequence[str]) -> int:
    """Fuzz each target in a process of its own, all of them whatever is found."""
    FOUND.mkdir(exist_ok=True)
    failed = 0
    for name in TARGETS:
        log = FOUND / f"{name}.log"
        command = [sys.executable, __file__, name, *options]
        with open(log, "wb") as output:
            status = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
        last_line = log.read_text("utf-8", "replace").strip().rpartition("\n")[2]
        verdict = f"FAILED, see {log}" if status else last_line.removeprefix(f"{name}: ")
        print(f"{name}: {verdict}", flush=True)
        failed |= status
    return 1 if failed else 0


def load(name: str) -> Target:
    """Import a target, and what it tests."""
    if name == CONNECTION:
        return importlib.import_module("fuzz.connection").run  # type: ignore[no-any-return]
    return importlib.import_module("fuzz.parsers").TARGETS[name]  # type: ignore[no-any-return]


def feed_files(target: Target, paths: Sequence[Path]) -> int:
    """Feed each file once; an exception that gets out is a finding."""
    for path in paths:
        with _patience():
            verdict = "valid" if target(path.read_bytes()) else "refused"
        print(f"{path}: {verdict}")
    return 0


def fuzz_plainly(
    name: str, target: Target, corpus: Sequence[bytes], options: dict[str, str]
) -> int:
    """Feed mutated inputs until enough have been fed or the time is over."""
    seed = int(options.get("seed") or random.randrange(1 << 32))
    seconds = float(options.get("max_total_time") or 0)
    runs = int(options.get("runs") or (0 if seconds else DEFAULT_RUNS))
    print(f"{name}: plain mutator, seed={seed}", flush=True)
    chance = random.Random(seed)
    began_s = time.monotonic()
    done = valid = 0
    while (done < runs or not runs) and (not seconds or time.monotonic() - began_s < seconds):
        data = mutate(chance, corpus)
        try:
            with _patience():
                valid += bool(target(data))
        except BaseException:
            print(f"{name}: finding in {_keep(name, data)}, seed={seed}", flush=True)
            raise
        done += 1
    took_s = time.monotonic() - began_s
    print(f"{name}: {done} inputs in {took_s:.1f} s, {valid} of them valid, no finding", flush=True)
    return 0


def _atheris() -> Any:
    try:
        return importlib.import_module("atheris")
    except ImportError:
        return None


def _quiet(target: Target, data: bytes) -> None:
    """Call a target as atheris wants it: what it returns must be None."""
    target(data)


def _read_corpus(places: Sequence[Path]) -> list[bytes]:
    files = [path for place in places for path in sorted(place.iterdir()) if path.is_file()]
    return [path.read_bytes() for path in files] or [b""]


def _write_dictionary() -> Path:
    path = FOUND / "words.dict"
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in WORDS)
    path.write_text("".join(f'"{word}"\n' for word in escaped))
    return path


def _keep(name: str, data: bytes) -> Path:
    path = FOUND / f"{name}-crash-{hashlib.sha1(data).hexdigest()}"
    path.write_bytes(data)
    return path


@contextlib.contextmanager
def _patience():
    # Not from the start: atheris has a use for this signal, too.
    signal.signal(signal.SIGALRM, _hangs)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Hang(KeyboardInterrupt):
    """One input has taken too long.  Of this kind because gevent hands on no other."""


def _hangs(number: int, frame: FrameType | None) -> None:
    raise Hang(f"one input has taken {PATIENCE_S} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
