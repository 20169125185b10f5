"""The file with settings: an INI file, whose names are those of the flags.

[proxy]
log = info

[limits]
max-vms = 100
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from typing import NoReturn

from ccproxy_lib.errors import UsageError
from ccproxy_lib.front.limit_flags import LIMIT_FLAGS, default_text
from ccproxy_lib.front.sources import ONLY_FLAGS, Given

PROXY = "proxy"
LIMITS = "limits"
# What is said here is for all daemons of a host, and each of these for one of them.
NOT_FOR_ALL = frozenset({"uri", "config", "daemonize", "pid-file"})
# Far more than all settings take; a device that was named by mistake never ends.
MAX_CHARS = 1 << 20
NEITHER = "neither NAME = VALUE nor [SECTION]"

# Behind a blank, or alone in its line.
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*|^\s*;.*")


def read(path: str, flags: Mapping[str, bool]) -> dict[str, Given]:
    """Return the settings in a file; UsageError, with file and line, if it is wrong."""
    text = "\n".join(_COMMENT.sub("", line) for line in _text(path).split("\n"))
    parser = _parse(path, text)
    lines = _lines(path, parser, text)
    found = {}
    for section in parser.sections():
        if section not in (PROXY, LIMITS):
            _fail(path, lines[section, ""], f"unknown section [{section}]: use [proxy] or [limits]")
        for name, value in parser.items(section):
            line = lines[section, name]
            if problem := _problem(section, name, value, flags):
                _fail(path, line, problem)
            found[name] = Given(name, value, f"{path}, line {line}")
    return found


def write(given: Mapping[str, Given], defaults: Mapping[str, str]) -> str:
    """Return what counts as the text of such a file, and behind each setting where it is from."""
    elsewhere = [each for flag, each in given.items() if section_of(flag) is None]
    if "uri" in given:
        defaults = {flag: value for flag, value in defaults.items() if flag != "socket-path"}
    return "\n".join(
        [
            *(_line(f"# {each.flag}", each) for each in elsewhere if each.flag not in ONLY_FLAGS),
            *_section(PROXY, given, defaults),
            "",
            *_section(LIMITS, given, {flag: default_text(flag) for flag in LIMIT_FLAGS}),
        ]
    )


def _section(title: str, given: Mapping[str, Given], defaults: Mapping[str, str]) -> list[str]:
    both = {flag: Given(flag, value, "default") for flag, value in defaults.items()}
    both.update(given)
    return [f"[{title}]", *(_line(f, both[f]) for f in both if section_of(f) == title)]


def _line(name: str, given: Given) -> str:
    setting = f"{name} = {given.value}"
    return f"{setting:<40} # {given.origin}"


def section_of(flag: str) -> str | None:
    """Return where a flag's setting stands in a file, or None if it does not belong there."""
    if flag in LIMIT_FLAGS:
        return LIMITS
    return None if flag in ONLY_FLAGS | NOT_FOR_ALL or flag == "v" else PROXY


def _problem(section: str, name: str, value: str, flags: Mapping[str, bool]) -> str:
    right = section_of(name) if name in flags else None
    if name not in flags or name == "v":
        return f"unknown setting '{name}': see cc-proxy -help"
    if right is None:
        return f"'{name}' cannot be set in a file, but by flag"
    if right != section:
        return f"'{name}' belongs into the section [{right}]"
    if not value:
        return f"'{name}' has no value: leave the line out for the default"
    if "\n" in value:
        return f"the value of '{name}' goes on in the next line: begin each setting without blanks"
    return ""


def _text(path: str) -> str:
    problem = ""
    try:
        # Some editors put a byte order mark first.
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARS + 1)
    except OSError as error:
        problem = error.strerror or str(error)
    except UnicodeDecodeError:
        problem = "it is not UTF-8"
    else:
        if len(text) > MAX_CHARS:
            problem = f"it has more than {MAX_CHARS} characters"
        elif "\0" in text:
            problem = "it has a zero byte, and so is no text"
    if problem:
        raise UsageError(f"cannot read the settings in {path}: {problem}")
    return text


def _parse(path: str, text: str) -> configparser.RawConfigParser:
    # What it takes for comments would be something else than what we do.
    parser = configparser.RawConfigParser(
        delimiters=("=",), comment_prefixes=(), default_section=""
    )
    try:
        parser.read_string(text)
    except configparser.MissingSectionHeaderError as error:
        _fail(path, error.lineno, "a setting outside of a section: put [proxy] or [limits] first")
    except configparser.DuplicateSectionError as error:
        _fail(path, error.lineno, f"the section [{error.section}] is there twice")
    except configparser.DuplicateOptionError as error:
        _fail(path, error.lineno, f"the setting '{error.option}' is there twice")
    except configparser.ParsingError as error:
        _fail(path, error.errors[0][0], NEITHER)
    return parser


def _lines(
    path: str, parser: configparser.RawConfigParser, text: str
) -> dict[tuple[str, str], int]:
    """Return the line of each section, and of each setting in it: configparser forgets them."""
    found: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.split("\n"), 1):
        if header := parser.SECTCRE.match(line.strip()):
            if header.end() < len(line.strip()):
                _fail(path, number, NEITHER)
            section = header["header"]
            found[section, ""] = number
        else:
            found.setdefault((section, parser.optionxform(line.partition("=")[0].strip())), number)
    return found


def _fail(path: str, line: int | None, problem: str) -> NoReturn:
    raise UsageError(f"{path}, line {line}: {problem}")
