"""Go's way of writing flags, and that the daemon's help knows each flag."""

from __future__ import annotations

import pytest
from docopt import docopt

from ccproxy_lib.errors import UsageError
from ccproxy_lib.front import daemon
from ccproxy_lib.front.goflags import parse

FLAGS = {"log": True, "socket-path": True, "version": False}

VALUED = sorted(name for name, takes_value in daemon.FLAGS.items() if takes_value)
BOOLEAN = sorted(name for name, takes_value in daemon.FLAGS.items() if not takes_value)


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("name", VALUED)
def test_a_value_comes_behind_a_blank_or_an_equals_sign(dashes: str, name: str) -> None:
    for arguments in ([f"{dashes}{name}", "7"], [f"{dashes}{name}=7"]):
        assert parse(arguments, daemon.FLAGS) == {name: "7"}


def test_the_help_knows_flags_with_a_value() -> None:
    given = [f"--{name}=7" for name in VALUED]
    options = docopt(daemon.__doc__, given, default_help=False)
    assert {name: options[f"--{name}"] for name in VALUED} == dict.fromkeys(VALUED, "7")


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("name", BOOLEAN)
def test_a_flag_without_a_value_stands_alone(dashes: str, name: str) -> None:
    assert parse([dashes + name], daemon.FLAGS) == {name: "true"}


def test_the_help_knows_flags_without_a_value() -> None:
    names = sorted(set(BOOLEAN) - {"h"})
    options = docopt(daemon.__doc__, [f"--{name}" for name in names], default_help=False)
    assert {name: options[f"--{name}"] for name in names} == dict.fromkeys(names, True)


@pytest.mark.parametrize("word", ["1", "t", "T", "true", "True", "TRUE"])
def test_true(word: str) -> None:
    assert parse([f"-version={word}"], FLAGS) == {"version": "true"}


@pytest.mark.parametrize("word", ["0", "f", "F", "false", "False", "FALSE"])
def test_false(word: str) -> None:
    assert parse([f"-version={word}"], FLAGS) == {"version": "false"}
    assert parse(["-version", f"-version={word}"], FLAGS) == {"version": "false"}


@pytest.mark.parametrize("word", ["", "yes", "2"])
def test_neither_true_nor_false(word: str) -> None:
    with pytest.raises(UsageError, match=f"^flag -version takes true or false, got '{word}'$"):
        parse([f"--version={word}"], FLAGS)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["-log="], ""),
        (["-log", ""], ""),
        (["-log=a=b"], "a=b"),
        (["-log", "a=b"], "a=b"),
        (["-log", "-version"], "-version"),
        (["-log", "--"], "--"),
        (["-log=two words"], "two words"),
    ],
)
def test_a_value_may_be_anything(arguments: list[str], value: str) -> None:
    assert parse(arguments, FLAGS) == {"log": value}


def test_many_flags_in_all_styles() -> None:
    arguments = ["-log", "debug", "--socket-path=/x", "-version"]
    assert parse(arguments, FLAGS) == {
        "log": "debug",
        "socket-path": "/x",
        "version": "true",
    }


def test_the_last_of_equal_flags_counts() -> None:
    assert parse(["-log", "debug", "--log=info"], FLAGS) == {"log": "info"}


@pytest.mark.parametrize(
    ("argument", "shown"),
    [("-nope", "-nope"), ("--nope=x", "--nope"), ("-lo", "-lo"), ("-Log", "-Log"), ("-=", "-")],
)
def test_unknown_flag(argument: str, shown: str) -> None:
    with pytest.raises(UsageError, match=f"^unknown flag {shown}: see -help$"):
        parse([argument, "x"], FLAGS)


def test_three_dashes_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="^unknown flag ---log: see -help$"):
        parse(["---log", "debug"], FLAGS)


@pytest.mark.parametrize("before", [[], ["-version"]])
def test_missing_value(before: list[str]) -> None:
    with pytest.raises(UsageError, match="^flag -log needs a value: see -help$"):
        parse([*before, "--log"], FLAGS)


@pytest.mark.parametrize("arguments", [["x"], ["-version", "x"], ["--", "x"], ["--", "x", "-log"]])
def test_positional_argument(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="^unexpected argument 'x': see -help$"):
        parse(arguments, FLAGS)


@pytest.mark.parametrize("argument", ["-", "", "--"])
def test_what_is_no_flag_by_its_dashes_alone(argument: str) -> None:
    with pytest.raises(UsageError, match=f"^unexpected argument '{argument}': see -help$"):
        parse(["--", argument] if argument == "--" else [argument], FLAGS)


def test_flags_end_at_two_dashes() -> None:
    assert parse(["-version", "--"], FLAGS) == {"version": "true"}
    with pytest.raises(UsageError, match="^unexpected argument '-log': see -help$"):
        parse(["--", "-log", "debug"], FLAGS)
