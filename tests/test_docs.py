"""The documents tell the truth, as far as a program can see: names, tables, links."""

from __future__ import annotations

import ast
import os
import re
from functools import cache
from pathlib import Path

import pytest

from ccproxy_lib.front import daemon, entry
from ccproxy_lib.front.limit_flags import LIMIT_FLAGS
from ccproxy_lib.state.limits import Limits
from ccproxy_lib.state.session import TRANSITIONS, Event, State
from ccproxy_lib.wire import ctl
from ccproxy_lib.wire.frames import Command, Notification, Stream, Type

TOP = Path(__file__).resolve().parents[1]
DOCS = sorted(
    path for place in (".", "docs", "init", "selinux") for path in (TOP / place).glob("*.md")
)
TESTS = TOP / "tests"
# Where a path in a document may begin.
ROOTS = (TOP, TOP / "ccproxy_lib")


def name_of(path: Path) -> str:
    return str(path.relative_to(TOP))


def read(name: str) -> str:
    return (TOP / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """What stands between a heading and the next one."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,6}} |\Z)", text, re.M | re.S)
    assert match, f"no heading '{title}'"
    return match[2]


def table(text: str) -> list[list[str]]:
    """The cells of the first table in a text, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def head(text: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith("|"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def quoted(text: str) -> set[str]:
    """What stands between backquotes."""
    return set(re.findall(r"`([^`\n]+)`", text))


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def functions_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@cache
def members() -> dict[str, set[str]]:
    """By class of the package, the names of its methods and of all attributes in its code."""
    found: dict[str, set[str]] = {}
    for path in (TOP / "ccproxy_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                names = found.setdefault(node.name, set())
                names |= {each.name for each in ast.walk(node) if isinstance(each, ast.FunctionDef)}
                names |= {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    return found


# ---- names


@pytest.mark.parametrize("document", DOCS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, part = target.partition("#")
        if re.match(r"https?:", target):
            continue
        goal = document.parent / path if path else document
        assert goal.exists(), target
        if part:
            headings = re.findall(r"^#+ (.+)$", goal.read_text(encoding="utf-8"), re.M)
            assert part in map(anchor, headings), target


@pytest.mark.parametrize("document", DOCS, ids=name_of)
def test_files_that_are_named_exist(document: Path) -> None:
    for name in quoted(document.read_text(encoding="utf-8")):
        if re.fullmatch(r"[\w./]+/[\w.]*", name) and not name.startswith("/"):
            assert any((root / name).exists() for root in ROOTS), name


@pytest.mark.parametrize("document", DOCS, ids=name_of)
def test_methods_that_are_named_exist(document: Path) -> None:
    for name in quoted(document.read_text(encoding="utf-8")):
        if match := re.fullmatch(r"([A-Z]\w+)\.(\w+)", name):
            assert match[2] in members().get(match[1], set()), name


def test_headings_that_the_sources_name_exist() -> None:
    named = set()
    for path in (TOP / "ccproxy_lib").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r'(docs/\w+\.md), "([^"]+)"', text))
    assert named
    for document, title in named:
        section(read(document), title)


def test_tests_that_are_named_exist() -> None:
    there = set().union(*map(functions_in, TESTS.rglob("test_*.py")))
    named = {name for name in quoted(read("docs/RELIABILITY.md")) if name.startswith("test_")}
    assert len(named) > 50
    assert not named - there


def test_each_promise_names_a_test() -> None:
    for row in table(section(read("docs/RELIABILITY.md"), "Promises")):
        is_heading = row[0].startswith("**") and row[1:] == ["", ""]
        assert is_heading or quoted(row[2]), row


def test_all_that_the_original_falls_over_is_named() -> None:
    path = TESTS / "e2e" / "test_where_the_original_falls_over.py"
    tests = {name for name in functions_in(path) if name.startswith("test_")}
    assert not tests - quoted(read("docs/RELIABILITY.md"))


def test_each_module_has_its_place_in_the_layout() -> None:
    named = quoted(read("docs/ARCHITECTURE.md"))
    package = TOP / "ccproxy_lib"
    for path in package.rglob("[!_]*.py"):
        name = path.relative_to(package)
        # Either itself, or the folder within its floor that it is in.
        rooms = {f"{room}/" for room in name.parents[:-2]}
        inits = {f"{room}/__init__.py" for room in name.parents[:-2]}
        assert named & {str(name), *rooms, *inits}, name


# ---- messages

# What systemd says.
NOT_OURS = {"Watchdog timeout"}


def texts_of_sources() -> list[str]:
    """Each text in the sources as a pattern, with anything where a value goes in."""
    found = []
    for path in (TOP / "ccproxy_lib").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        joined = [node.values for node in nodes if isinstance(node, ast.JoinedStr)]
        pieces = {id(part) for parts in joined for part in parts}
        plain = [[node] for node in nodes if isinstance(node, ast.Constant)]
        for parts in joined + [parts for parts in plain if id(parts[0]) not in pieces]:
            texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            if len("".join(text for text in texts if isinstance(text, str))) >= 15:
                whole = "".join(".+" if text is None else re.escape(text) for text in texts)
                found.append(whole.removeprefix(re.escape("cc-proxy: ")))
    return found


def test_messages_that_operators_look_for_are_the_programs() -> None:
    text = read("docs/OPERATIONS.md").partition("## Troubleshooting\n")[2]
    columns = "\n".join(line.split(" | ")[0] for line in text.splitlines() if line[:1] == "|")
    headings = "\n".join(re.findall(r"^### .*$", text, re.M))
    messages = {each for each in quoted(columns) | quoted(headings) if " " in each} - NOT_OURS
    messages |= set(re.findall(r'\bmsg="([^"]+)"', text))
    assert len(messages) > 30
    # What names a limit may get that later.
    texts = {each: re.compile(each + r"( \(-[\w-]+\))?") for each in texts_of_sources()}
    # What the system gives as its reason is known to Python.
    reasons = {f"... {os.strerror(number)}" for number in range(1, 120)}
    for message in messages - reasons:
        start = re.escape(message)  # a heading may be the beginning alone
        assert any(start in text or whole.fullmatch(message) for text, whole in texts.items()), (
            message
        )


# ---- tables


def test_the_states_are_those_of_the_code() -> None:
    text = section(read("docs/ARCHITECTURE.md"), "A session's states")
    events = [Event[name] for name in head(text)[1:]]
    assert set(events) == set(Event)
    drawn = {
        State[row[0]]: {
            event: State[cell] for event, cell in zip(events, row[1:], strict=True) if cell
        }
        for row in table(text)
    }
    assert drawn == TRANSITIONS


def test_the_limits_are_those_of_the_code() -> None:
    rows = table(section(read("docs/LIMITS.md"), "Limits"))
    given = {row[0].strip("`-"): row[1] for row in rows if row[0].startswith("`-")}
    assert list(given) == list(LIMIT_FLAGS)
    for flag, text in given.items():
        field, parse = LIMIT_FLAGS[flag]
        assert parse(text) == getattr(Limits(), field), flag


def test_limits_without_a_flag_are_told_too() -> None:
    rows = table(section(read("docs/LIMITS.md"), "Limits"))
    with_flag = {field for field, _ in LIMIT_FLAGS.values()}
    without = [name for name in Limits._fields if name not in with_flag]
    told = [float(row[1]) for row in rows if row[0] == "(none)"]
    assert told == [getattr(Limits(), name) for name in without]


def test_the_help_tells_the_same_defaults() -> None:
    for flag, (field, parse) in LIMIT_FLAGS.items():
        match = re.search(rf"^  --{flag} \w .*\(([\w.]+)\)\.$", daemon.__doc__, re.M)
        assert match, flag
        assert parse(match[1]) == getattr(Limits(), field), flag


def test_the_flags_are_those_of_the_code() -> None:
    rows = table(section(read("docs/LIMITS.md"), "Flags"))
    told = {row[0].strip("`-"): row[1] != "none" for row in rows}
    wanted = {name: value for name, value in daemon.FLAGS.items() if name not in LIMIT_FLAGS}
    assert told | {"h": False} == wanted


def test_the_logs_fields_are_those_of_the_code() -> None:
    rows = table(section(read("docs/LOGGING.md"), "Fields"))
    told = set().union(*(quoted(row[0]) for row in rows))
    given, words = set(), set()
    for path in (TOP / "ccproxy_lib").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        words |= set(re.findall(r"\w+", text))
        for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            if name in ("tags", "session_tags"):
                given |= {keyword.arg for keyword in call.keywords if keyword.arg}
    assert not given - told
    assert not told - words


# ---- the man page


def flags_of_help(text: str) -> list[str]:
    """The flags in a help text, in its order, as they stand at the beginnings of lines."""
    columns = re.findall(r"^ {2,4}(-\S.*?)(?:  |$)", text, re.M)
    return [word for column in columns for word in re.findall(r"(?<![\w-])-{1,2}[\w-]+", column)]


def flags_of_man(text: str) -> list[str]:
    """The flags that have an entry in a part of the man page, with their dashes."""
    entries = re.findall(r"^\.It (Fl .*)$", text, re.M)
    return [f"-{name}" for entry in entries for name in re.findall(r"\bFl (-?\w[\w-]*)", entry)]


def test_the_man_page_has_the_daemons_flags() -> None:
    told = read("docs/cc-proxy.8").partition(".Ss Commands\n")[0]
    wanted = [flag.replace("--", "-") for flag in flags_of_help(daemon.__doc__)]
    assert flags_of_man(told) == wanted
    for flag in wanted:
        takes_value = re.search(rf"^  -{flag} [A-Z]", daemon.__doc__, re.M) is not None
        assert (f".It Fl {flag[1:]} Ar " in told) == takes_value, flag


@pytest.mark.parametrize("command", sorted({**entry.UNPATCHED, **entry.PATCHED}))
def test_the_man_page_has_the_commands_flags(command: str) -> None:
    module = {**entry.UNPATCHED, **entry.PATCHED}[command]
    source = TOP / (module.replace(".", "/") + ".py")
    if not source.exists():
        source = source.with_suffix("") / "__init__.py"
    wanted = flags_of_help(source.read_text(encoding="utf-8"))
    commands = read("docs/cc-proxy.8").partition(".Ss Commands\n")[2]
    match = re.search(rf"^\.It Nm Cm {command}\b.*?(?=^\.It Nm Cm |^\.Sh )", commands, re.M | re.S)
    assert match, "the command has no entry"
    assert flags_of_man(match[0]) == wanted
    # And one in the synopsis.
    assert re.search(rf"^\.Nm\n\.Cm {command}$", read("docs/cc-proxy.8"), re.M)


def test_the_man_page_tells_the_same_defaults() -> None:
    text = read("docs/cc-proxy.8")
    for flag, (field, parse) in LIMIT_FLAGS.items():
        match = re.search(rf"^\.It Fl {flag} .*\n(?:[^.].*\n)+?\.Bq (\S+) \.$", text, re.M)
        assert match, flag
        assert parse(match[1]) == getattr(Limits(), field), flag


# ---- the protocol


@pytest.mark.parametrize(
    ("title", "members_of"),
    [
        ("Frame", Type),
        ("Commands", Command),
        ("Streams", Stream),
        ("Notifications", Notification),
    ],
)
def test_the_opcodes_are_those_of_the_code(title: str, members_of: type[Type]) -> None:
    rows = table(section(read("docs/PROTOCOL.md"), title))
    told = {int(row[0]): row[1].upper() for row in rows}
    assert told == {int(each): each.name.replace("_", "") for each in members_of}


def test_the_agents_commands_are_those_of_the_code() -> None:
    rows = table(section(read("docs/PROTOCOL.md"), "Control channel").partition("From the")[0])
    assert {row[1].strip("`"): int(row[0]) for row in rows} == ctl.COMMANDS
