"""Each file of tests/corpus through its fuzz target, whole and in pieces; and a short fuzz run."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz import make_corpus, mutator, parsers

TOP = Path(__file__).resolve().parents[1]
CORPUS = TOP / "tests" / "corpus"
FILES = [path for name in parsers.TARGETS for path in sorted((CORPUS / name).iterdir())]
MUTATIONS = 2000


def short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("path", FILES, ids=short)
def test_in_one_piece(path: Path) -> None:
    valid = parsers.TARGETS[path.parent.name](path.read_bytes())
    assert path.name.startswith("valid-" if valid else "invalid-")


@pytest.mark.parametrize("path", FILES, ids=short)
def test_byte_by_byte(path: Path) -> None:
    data = path.read_bytes()
    stream = parsers.STREAMS.get(path.parent.name)
    if stream:
        parsers.same_in_chunks(stream, data, 1)
    else:
        for length in range(len(data)):
            parsers.TARGETS[path.parent.name](data[:length])


def test_whole_conversations() -> None:
    # Sockets are patched there, so it has a process of its own.
    files = sorted((CORPUS / "connection").iterdir())
    command = [sys.executable, "fuzz/run.py", "connection", *map(str, files)]
    ended = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("\n") == len(files)


@pytest.mark.parametrize("name", parsers.TARGETS)
def test_a_few_mutations(name: str) -> None:
    chance = random.Random(name)
    corpus = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    for _ in range(MUTATIONS):
        parsers.TARGETS[name](mutator.mutate(chance, corpus))


def test_the_corpus_is_what_its_maker_makes() -> None:
    made = {
        f"{name}/{file}": data
        for name in make_corpus.MAKERS
        for file, data in make_corpus.MAKERS[name]().items()
    }
    there = {short(path): path.read_bytes() for path in CORPUS.glob("*/*")}
    assert there == made
