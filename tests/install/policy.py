"""The SELinux module inside a whole policy, and questions about that policy."""

from __future__ import annotations

import bz2
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.harness import TOP
from tests.install.conftest import run

DEVEL = Path("/usr/share/selinux/devel/Makefile")
MODULES = Path("/usr/share/selinux/default")
TO_CIL = Path("/usr/libexec/selinux/hll/pp")
# What the module mentions, and what those need.
OTHERS = ("base", "unconfined", "virt", "qemu")
# Debian's policy has no container engines.  One stands for them as other policies have them.
ENGINE = """
(typeattribute container_engine_domain)
(type an_engine_t)
(roletype system_r an_engine_t)
(typeattributeset domain (an_engine_t))
(typeattributeset container_engine_domain (an_engine_t))
"""
PACKAGES = (
    *((DEVEL, "selinux-policy-dev"), (MODULES / "base.pp.bz2", "selinux-policy-default")),
    *((TO_CIL, "policycoreutils"), ("secilc", "secilc"), ("sesearch", "setools")),
    *(("matchpathcon", "selinux-utils"), ("bzip2", "bzip2")),
)
# Debian has some of them where only root looks.
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


class Rule(NamedTuple):
    """One allow rule; ``condition`` is empty or names a boolean."""

    source: str
    target: str
    object_class: str
    permissions: frozenset[str]
    condition: str


class Policy:
    """A compiled policy, asked with setools."""

    def __init__(self, binary: Path, contexts: Path):
        self._binary = binary
        self._contexts = contexts
        self.types = dict(self._read_types())
        self.rules = list(self._read_rules())

    def ask(self, program: str, *arguments: str) -> list[str]:
        """The lines of an answer of seinfo or sesearch."""
        cwd = self._binary.parent
        said = run(program, self._binary.name, *arguments, cwd=cwd, env={"PATH": PATH})
        return [line.strip() for line in said.splitlines() if line.strip()]

    def _read_types(self) -> Iterator[tuple[str, set[str]]]:
        """Each type, also by its other names, with its attributes and itself."""
        for line in self.ask("seinfo", "--flat", "-x", "-t"):
            names, *attributes = line.removeprefix("type ").rstrip(";").split(", ")
            name, *others = re.findall(r"[\w.-]+", names.replace(" alias ", " "))
            for each in (name, *others):
                yield each, {name, *attributes}

    def _read_rules(self) -> Iterator[Rule]:
        pattern = r"allow (\S+) (\S+):(\S+) (?:\{ ([^}]*) \}|(\S+));(?: \[ (.*) \]:(\w+))?"
        for line in self.ask("sesearch", "-A", "-s", "cc_proxy_t"):
            match = re.fullmatch(pattern, line)
            assert match, line
            source, target, object_class, many, one, condition, branch = match.groups()
            if branch == "False":
                condition = f"not {condition}"
            permissions = frozenset((many or one).split())
            yield Rule(source, target, object_class, permissions, condition or "")

    def allowed(self, target: str, object_class: str, boolean: str = "") -> set[str]:
        """What the daemon may do to objects of a type, perhaps with a boolean switched on."""
        return {
            permission
            for rule in self.rules
            if rule.object_class == object_class
            and rule.target in self.types[target]
            and rule.condition in ("", boolean)
            for permission in rule.permissions
        }

    def types_of(self, paths: dict[str, str]) -> dict[str, str]:
        """The type of each path, whose kinds are given as ``file``, ``dir``, ``socket`` ..."""
        types = {}
        for kind in set(paths.values()):
            some = [path for path, its in paths.items() if its == kind]
            said = run(
                *("matchpathcon", "-f", self._contexts, "-m", kind, *some),
                cwd=self._binary.parent,
                env={"PATH": PATH},
            )
            for line in said.splitlines():
                path, context = line.rsplit("\t", 1)
                types[path] = context.split(":")[2] if ":" in context else context
        return types


def build(directory: Path) -> tuple[str, Policy]:
    """Build the module and a policy with it; return what the build has said, and the policy."""
    for tool, package in PACKAGES:
        if not (shutil.which(tool, path=PATH) if isinstance(tool, str) else tool.exists()):
            pytest.skip(f"{tool} is not installed (Debian: {package})")
    sources = directory / "selinux"
    shutil.copytree(TOP / "selinux", sources, ignore=shutil.ignore_patterns("tmp", "*.pp*"))
    said = run("make", "--no-print-directory", cwd=sources, env={"MAKEFLAGS": "", "MAKELEVEL": ""})
    modules = {name: (MODULES / f"{name}.pp.bz2").read_bytes() for name in OTHERS}
    modules["cc-proxy"] = (sources / "cc-proxy.pp.bz2").read_bytes()
    for name, packed in modules.items():
        (directory / f"{name}.pp").write_bytes(bz2.decompress(packed))
        run(TO_CIL, f"{name}.pp", f"{name}.cil", cwd=directory)
    # Which login is whom does not matter here, and would ask for still more modules.
    base = (directory / "base.cil").read_text()
    (directory / "base.cil").write_text(re.sub(r"^\(selinuxuser .*\n", "", base, flags=re.M))
    (directory / "engine.cil").write_text(ENGINE)
    cils = [f"{name}.cil" for name in (*modules, "engine")]
    run("secilc", "-o", "policy", "-f", "file_contexts", *cils, cwd=directory)
    contexts = directory / "file_contexts"
    # The last one that matches counts, as semodule sorts them: from the general to the special.
    lines = [line for line in contexts.read_text().splitlines() if "HOME_" not in line]
    contexts.write_text("\n".join(sorted(lines, key=_generality)) + "\n")
    return said, Policy(directory / "policy", contexts)


def _generality(line: str) -> tuple[bool, int, int]:
    path = line.split("\t", maxsplit=1)[0].split(" ", maxsplit=1)[0]
    stem = re.match(r"(?:[^.^$?*+|\[({\\]|\\.)*", path)[0]
    return (len(stem) == len(path), len(stem), len(path))
