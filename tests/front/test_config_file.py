"""Settings from flags, environment and a file: which one counts, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccproxy_lib.errors import UsageError
from ccproxy_lib.front import daemon
from ccproxy_lib.front.config_file import read, section_of, write
from ccproxy_lib.front.daemon import FLAGS
from ccproxy_lib.front.sources import (
    ONLY_FLAGS,
    Given,
    from_environment,
    from_file,
    from_flags,
    merge,
    variable_of,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cc-proxy.conf"


def values(given: dict[str, Given]) -> dict[str, str]:
    return {flag: each.value for flag, each in given.items()}


# ---- the file


def test_what_is_in_it(path: Path) -> None:
    path.write_text(
        "# A note.\n\n[proxy]\nlog = info # another\nksm=off\n[limits]\n  max-vms  =  7\n"
    )
    assert read(str(path), FLAGS) == {
        "log": Given("log", "info", f"{path}, line 4"),
        "ksm": Given("ksm", "off", f"{path}, line 5"),
        "max-vms": Given("max-vms", "7", f"{path}, line 7"),
    }


def test_it_may_begin_with_a_byte_order_mark(path: Path) -> None:
    path.write_text("[proxy]\nlog = info\n", encoding="utf-8-sig")
    assert values(read(str(path), FLAGS)) == {"log": "info"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "[proxy]\n", "[limits]\n\n[proxy]"])
def test_it_may_be_empty(path: Path, text: str) -> None:
    path.write_text(text)
    assert read(str(path), FLAGS) == {}


def test_comments_may_have_anything_in_them(path: Path) -> None:
    path.write_text("[proxy] # see [1]\n  ; x = y\nlog = info # [2] = 3\n# [limits]\nksm = off#\n")
    assert values(read(str(path), FLAGS)) == {"log": "info", "ksm": "off#"}


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("log = info\n", 1, r"a setting outside of a section: put \[proxy\] or"),
        ("\n[proxy]\nlgo = info\n", 3, "unknown setting 'lgo'"),
        ("[proxy]\nv = 1\n", 2, "unknown setting 'v'"),
        ("[proxy]\n[DEFAULT]\n", 2, r"unknown section \[DEFAULT\]: use \[proxy\] or \[limits\]"),
        ("[proxy]\n[proxy]\n", 2, r"the section \[proxy\] is there twice"),
        ("[proxy]\nlog = info\nlog = info\n", 3, "the setting 'log' is there twice"),
        ("[proxy]\n\nlog\n", 3, r"neither NAME = VALUE nor \[SECTION\]"),
        ("[proxy]\nlog: info\n", 2, r"neither NAME = VALUE nor \[SECTION\]"),
        ("[proxy]\nmax-vms = 7\n", 2, r"'max-vms' belongs into the section \[limits\]"),
        ("[limits]\nlog = info\n", 2, r"'log' belongs into the section \[proxy\]"),
        ("[proxy]\nlog = info\n  ksm = off\n", 2, "the value of 'log' goes on in the next line"),
        ("[proxy]x\nlog = info\n", 1, r"neither NAME = VALUE nor \[SECTION\]"),
        ("[x] # [limits]\n", 1, r"unknown section \[x\]"),
        ("[proxy]\nuri = /x\n", 2, "'uri' cannot be set in a file"),
        ("[proxy]\nversion = true\n", 2, "'version' cannot be set in a file"),
        ("[proxy]\nlog = # info\n", 2, "'log' has no value: leave the line out"),
    ],
)
def test_what_is_wrong_in_it_is_told_with_its_line(
    path: Path, text: str, line: int, problem: str
) -> None:
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"^{path}, line {line}: {problem}"):
        read(str(path), FLAGS)


def test_a_line_is_that_of_its_own_section(path: Path) -> None:
    path.write_text("[limits]\nlog = info\n\n[proxy]\nlog = info\n")
    with pytest.raises(UsageError, match=f"^{path}, line 2: "):
        read(str(path), FLAGS)


def test_one_that_cannot_be_read(tmp_path: Path, path: Path) -> None:
    with pytest.raises(UsageError, match=f"^cannot read the settings in {path}: No such file"):
        from_file(Given("config", str(path), "-config"), FLAGS)
    with pytest.raises(UsageError, match="Is a directory$"):
        read(str(tmp_path), FLAGS)
    path.write_bytes(b"[proxy]\nlog = \xff\n")
    with pytest.raises(UsageError, match="it is not UTF-8$"):
        read(str(path), FLAGS)
    path.write_text("[proxy]\nsocket-path = /run/a\0b\n")
    with pytest.raises(UsageError, match="it has a zero byte, and so is no text$"):
        read(str(path), FLAGS)
    with pytest.raises(UsageError, match="/dev/zero: it has more than 1048576 characters$"):
        read("/dev/zero", FLAGS)


@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_where_a_flag_may_be_set(path: Path, flag: str) -> None:
    section = section_of(flag)
    path.write_text(f"[{section or 'proxy'}]\n{flag} = 1\n")
    if section is None:
        with pytest.raises(UsageError):
            read(str(path), FLAGS)
    else:
        assert values(read(str(path), FLAGS)) == {flag: "1"}


# ---- the environment


def test_each_flag_has_a_variable() -> None:
    names = {flag: variable_of(flag) for flag in FLAGS if flag not in ONLY_FLAGS | {"v"}}
    assert names["log"] == "CC_PROXY_LOG_LEVEL"
    assert names["max-vms"] == "CC_PROXY_MAX_VMS"
    environment = {name: flag for flag, name in names.items() if name}
    assert values(from_environment(environment, FLAGS)) == {flag: flag for flag in names}


@pytest.mark.parametrize("name", ["CC_PROXY_VERSION", "CC_PROXY_V", "CC_PROXY_LOG", "MAX_VMS"])
def test_other_variables_set_nothing(name: str) -> None:
    assert from_environment({name: "1", "CC_PROXY_MAX_VMS": ""}, FLAGS) == {}


# ---- all of them


def test_flags_win_over_the_environment_and_that_over_the_file(path: Path) -> None:
    path.write_text("[limits]\nmax-vms = 1\nmax-clients = 1\nmax-tokens = 1\n")
    environment = {"CC_PROXY_MAX_CLIENTS": "2", "CC_PROXY_MAX_TOKENS": "2"}
    merged = merge(
        read(str(path), FLAGS),
        from_environment(environment, FLAGS),
        from_flags(["-max-tokens", "3"], FLAGS),
    )
    assert values(merged) == {"max-vms": "1", "max-clients": "2", "max-tokens": "3"}


def test_the_old_way_to_set_the_level_wins_too() -> None:
    environment = from_environment({"CC_PROXY_LOG_LEVEL": "error"}, FLAGS)
    assert values(merge(environment, from_flags(["-v", "1"], FLAGS))) == {"log": "1"}
    assert values(from_flags(["-v", "1", "-log", "debug"], FLAGS)) == {"log": "debug"}


def test_a_path_for_all_daemons_is_none_for_that_of_one_vm() -> None:
    environment = from_environment({"CC_PROXY_SOCKET_PATH": "/all"}, FLAGS)
    assert values(merge(environment, from_flags(["-uri", "/one"], FLAGS))) == {"uri": "/one"}
    assert values(merge(environment, from_flags(["-log", "info"], FLAGS)))["socket-path"] == "/all"


# ---- writing it


def test_what_is_written_can_be_read(path: Path) -> None:
    given = from_flags(["-max-vms", "7", "-log", "info", "-session-spool", "0"], FLAGS)
    text = write(given, daemon.DEFAULTS)
    path.write_text(text)
    again = read(str(path), FLAGS)
    assert {flag: again[flag].value for flag in given} == values(given)
    assert values(again)["session-buffer"] == "1M"
    assert {flag for flag in FLAGS if section_of(flag) == "limits"} < set(again)
    assert write(again, daemon.DEFAULTS).replace(f"{path}, ", "").count("# line") == len(again)


def test_of_one_daemon_only() -> None:
    text = write(from_flags(["-uri", "/x", "-check-config"], FLAGS), daemon.DEFAULTS)
    assert text.splitlines()[0].split() == ["#", "uri", "=", "/x", "#", "-uri"]
    assert "socket-path" not in text
    assert "check-config" not in text
