"""What a daemon asks of the kernel, as strace tells it, in the words of SELinux."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

# The system calls that need a permission which depends on more than a descriptor.
CALLS = (
    *("execve", "openat", "open", "mkdir", "mkdirat", "unlink", "unlinkat", "rename", "renameat"),
    *("renameat2", "link", "linkat", "symlink", "symlinkat", "mknod", "mknodat", "chmod", "chown"),
    *("socket", "bind", "connect", "sendto", "sendmsg", "mmap", "mprotect", "clone", "clone3"),
    *("fork", "vfork", "prlimit64", "memfd_create", "kill", "ptrace", "mount", "setuid", "setgid"),
)
_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+|\?)(?:<(/.*)>)?.*")
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
# O_CREAT alone is also used for files that are there.
_CREATES = {"O_EXCL", "O_TMPFILE", "__O_TMPFILE"}


class Access(NamedTuple):
    """One permission that was needed: on the object at a path, or on one of a domain."""

    path: str
    object_class: str
    permission: str


def accesses(trace: str) -> Iterator[Access]:
    """Yield the permissions that the calls needed which succeeded."""
    for line in trace.splitlines():
        match = _LINE.fullmatch(line)
        if match is None or match[3].startswith("-") and "EINPROGRESS" not in line:
            continue
        call, arguments, _, opened = match.groups()
        if call in ("open", "openat") and opened and "O_TMPFILE" not in arguments:
            # Where links have led to.
            arguments = re.sub(_PATH, lambda _: f'"{opened}"', arguments, count=1)  # noqa: B023
        yield from _needs(call, arguments)


def _needs(call: str, arguments: str) -> Iterator[Access]:  # noqa: PLR0912 (one case a call)
    paths = [_absolute(path, arguments) for path in _PATH.findall(arguments)]
    flags = set(re.findall(r"\b_*[A-Z]+_\w+", arguments))
    match call:
        case "openat" | "open":
            yield from _opened(paths[0], flags)
        case "unlink" | "unlinkat" | "chmod" | "mkdir" | "mkdirat":
            permission = {"chmod": "setattr"}.get(call, re.sub("(at)$", "", call))
            permission = {"mkdir": "create"}.get(permission, permission)
            yield Access(paths[0], _class_of(paths[0], call), permission)
        case "rename" | "renameat" | "renameat2" | "link" | "linkat":
            yield Access(paths[0], _class_of(paths[0], call), call[:6].rstrip("a"))
            yield Access(os.path.dirname(paths[1]), "dir", "add_name")
        case "socket":
            family, kind = re.findall(r"\b(?:AF|SOCK)_[A-Z]\w+", arguments)[:2]
            names = {"SOCK_STREAM": "unix_stream_socket", "SOCK_DGRAM": "unix_dgram_socket"}
            yield Access("self", names[kind] if family == "AF_UNIX" else family, "create")
        case "bind":
            yield Access(paths[0], "sock_file", "create")
        case "connect" | "sendto" | "sendmsg":
            if found := re.search(r'sun_path="([^"]*)"', arguments):
                yield Access(_absolute(found[1], arguments), "sock_file", "write")
        case "mmap" | "mprotect":
            if "PROT_EXEC" in flags:
                file = re.search(r"\b\d+<(/[^>]*)>", arguments) if call == "mmap" else None
                yield (
                    Access(file[1], "file", "execute")
                    if file
                    else Access("self", "process", "execmem")
                )
        case "clone" | "clone3" | "fork" | "vfork":
            yield Access("self", "process", "fork")
        case "prlimit64":
            if re.match(r"0, \w+, \{", arguments):
                yield Access("self", "process", "setrlimit")
        case "memfd_create":
            yield Access("memfd", "file", "create")
        case "execve":
            yield Access(paths[0], "file", "execute_no_trans")
        case _:
            # No permission that a rule could give is known: nobody expects this call.
            yield Access("self", call, call)


def _opened(path: str, flags: set[str]) -> Iterator[Access]:
    if "O_PATH" in flags:
        return
    object_class = "dir" if "O_DIRECTORY" in flags and not flags & _CREATES else "file"
    if flags & {"O_TMPFILE", "__O_TMPFILE"}:
        path += "/unnamed"
    yield Access(path, object_class, "open")
    if "O_WRONLY" not in flags:
        yield Access(path, object_class, "read")
    if flags & {"O_WRONLY", "O_RDWR"}:
        yield Access(path, object_class, "write")
    if flags & _CREATES:
        yield Access(path, object_class, "create")


def _class_of(path: str, call: str) -> str:
    if call.startswith("mkdir"):
        return "dir"
    # The names of sockets here, also of those that have another name at first.
    return "sock_file" if ".sock" in path and not path.endswith((".ksm", ".new")) else "file"


def _absolute(path: str, arguments: str) -> str:
    """A path as strace shows it, which may be told by a descriptor of its directory."""
    if path.startswith("/"):
        return path
    directory = re.match(r"(?:AT_FDCWD|\d+)<(/[^>]*)>", arguments)
    return os.path.join(directory[1], path) if directory else path
