"""Puts cc-proxy into a system, and takes it out again: what make install and make uninstall do.

The program and the packages that it needs go into a directory of their own, so that
nothing else on the host can change them. A list of all that was made stays with them.
Needs nothing but Python; see the Makefile for the variables, which come as NAME=VALUE.
"""

from __future__ import annotations

import compileall
import configparser
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

TOP = Path(__file__).resolve().parent
# All that the package is, apart from what Python, pip and the commit id add.
NO_SOURCE = shutil.ignore_patterns("__pycache__", "_commit")
# The kernel reads no more of a script's first line.
MAX_SHEBANG_BYTES = 127
# What systemd, a shell or Python would not take as it is.
ODD = re.compile(r"""[\s"'\\$%`]""")

# The host's packages and the variables of whoever calls do not matter to a root's daemon.
LAUNCHER = """\
#!{python} {flags}
import sys

sys.path.insert(0, "{package}")

from ccproxy_lib.front.entry import main

sys.exit(main())
"""


class InstallError(Exception):
    """Why it cannot be installed, and what to do, for the user."""


@dataclass(frozen=True)
class Places:
    """Where everything goes; empty are those that the system does not have."""

    destdir: str
    bindir: str
    libdir: str
    libexecdir: str
    datadir: str
    mandir: str
    docdir: str
    completionsdir: str
    sysconfdir: str
    localstatedir: str
    rundir: str
    unitdir: str
    tmpfilesdir: str
    openrcdir: str
    no_deps: str
    shim: str

    @property
    def package(self) -> str:
        """The directory of the program and the packages that it needs."""
        return f"{self.libdir}/cc-proxy"

    @property
    def program_dir(self) -> str:
        """Where runtimes look for the daemon."""
        return f"{self.libexecdir}/clear-containers"

    @property
    def manifest(self) -> str:
        """The list of what was installed."""
        return f"{self.package}/installed"

    def staged(self, path: str) -> Path:
        """Return where a path of the system is now."""
        return Path(self.destdir + path)


def main(arguments: Sequence[str]) -> int:
    """Install or uninstall; return the exit status."""
    try:
        action, *settings = arguments
        places = _places(settings)
        {"install": install, "uninstall": uninstall}[action](places)
    except InstallError as error:
        print(f"make {action}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"make {action}: {error.filename or 'a file'}: {error.strerror}"
            " (DESTDIR= and PREFIX= say where to install; /usr needs root)",
            file=sys.stderr,
        )
        return 1
    return 0


def install(places: Places) -> None:
    """Install everything, in the place of what an earlier call has installed."""
    _refuse_odd(places)
    python = _interpreter(bool(places.no_deps))
    # Who builds a package need not have what the package will ask for.
    if places.no_deps and not places.destdir:
        _check_packages()
    with tempfile.TemporaryDirectory(prefix="cc-proxy-install-") as image:
        # Anything that fails does so before the first file of the system is touched.
        _make_image(Path(image), places, python)
        uninstall(places)
        _place(Path(image), places)
    _warn_of_homes(python)


def uninstall(places: Places) -> None:
    """Remove what was installed, and the directories that were made for it, if they are empty."""
    try:
        installed = places.staged(places.manifest).read_text().splitlines()
    except FileNotFoundError:
        return
    for path in filter(None, installed):
        if not path.endswith("/"):
            places.staged(path).unlink(missing_ok=True)
    # Python may have added to it, and nobody else has to.
    shutil.rmtree(places.staged(places.package))
    for path in reversed(installed):
        if path.endswith("/"):
            directory = places.staged(path)
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()


# ---- the files


def _make_image(image: Path, places: Places, python: str) -> None:
    """Make a tree of all files at their later paths."""
    package = image / places.package[1:]
    shutil.copytree(TOP / "ccproxy_lib", package / "ccproxy_lib", ignore=NO_SOURCE)
    commit = runpy.run_path(str(TOP / "ccproxy_lib" / "version.py"))["commit"]()
    (package / "ccproxy_lib" / "_commit").write_text(f"{commit}\n")
    if not places.no_deps:
        _fetch_packages(package)
    # The paths in tracebacks must be the later ones.
    compileall.compile_dir(package, quiet=2, stripdir=str(image), prependdir="/", workers=0)
    # No link for the shim: under SELinux it does not run in the domain of the daemon.
    for name in ("cc-proxy", "cc-shim") if places.shim else ("cc-proxy",):
        _write(image, f"{places.program_dir}/{name}", _launcher(places, python), 0o755)
    link = image / places.bindir[1:] / "cc-proxy"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(f"{places.program_dir}/cc-proxy", places.bindir))
    for source, target, mode in _plain_files(places):
        _write(image, target, _filled(source, places), mode)


def _plain_files(places: Places) -> Iterator[tuple[Path, str, int]]:
    """The source, target and mode of each file that is no Python."""
    yield TOP / "docs" / "cc-proxy.8", f"{places.mandir}/man8/cc-proxy.8", 0o644
    yield TOP / "completions" / "cc-proxy.bash", f"{places.completionsdir}/cc-proxy", 0o644
    for name in ("README.md", "CHANGELOG.md", "LICENSE"):
        yield TOP / name, f"{places.docdir}/{name}", 0o644
    for directory in ("bench", "docs", "init", "selinux"):
        for source in sorted(TOP.glob(f"{directory}/*.md")):
            yield source, f"{places.docdir}/{directory}/{source.name}", 0o644
    for source in sorted(TOP.glob("selinux/*")):
        # Others are made from these.
        if source.suffix in {".te", ".fc", ".if", ".md"} or source.name == "Makefile":
            yield source, f"{places.datadir}/cc-proxy/selinux/{source.name}", 0o644
    if places.unitdir:
        for source in sorted(TOP.glob("init/*.service.in")) + sorted(TOP.glob("init/*.socket.in")):
            yield source, f"{places.unitdir}/{source.stem}", 0o644
    if places.tmpfilesdir:
        yield TOP / "init" / "cc-proxy.tmpfiles.in", f"{places.tmpfilesdir}/cc-proxy.conf", 0o644
    if places.openrcdir:
        yield TOP / "init" / "cc-proxy.openrc.in", f"{places.openrcdir}/cc-proxy", 0o755


def _filled(source: Path, places: Places) -> str:
    text = source.read_text(encoding="utf-8")
    if source.suffix != ".in":
        return text
    directories = {
        "BINDIR": places.bindir,
        "LIBEXECDIR": places.program_dir,
        "LOCALSTATEDIR": places.localstatedir,
        "SYSCONFDIR": places.sysconfdir,
        "RUNDIR": places.rundir,
    }
    for name, directory in directories.items():
        text = text.replace(f"@{name}@", directory)
    if left := re.search(r"@[A-Z]+@", text):
        raise InstallError(f"{source.name} has {left[0]}, which nothing fills in")
    return text


def _write(image: Path, target: str, text: str, mode: int) -> None:
    path = image / target[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _place(image: Path, places: Places) -> None:
    """Copy the tree into the system, and note each file and each directory that was not there."""
    made = []
    # That one is its maker's, also if it is us.
    Path(places.destdir + "/").mkdir(parents=True, exist_ok=True)
    for directory, directories, names in os.walk(image):
        directories.sort()
        within = f"/{os.path.relpath(directory, image)}".removesuffix("/.")
        made += [f"{path}/" for path in _make_directory(places.staged(within), places)]
        for name in sorted(names):
            _copy(Path(directory, name), places.staged(f"{within}/{name}"))
            made.append(f"{within}/{name}")
    made.append(places.manifest)
    _copy_text("".join(f"{path}\n" for path in made), places.staged(places.manifest))


def _make_directory(directory: Path, places: Places) -> Iterator[str]:
    """Make it and what it is in, and yield the paths of those that were missing."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir()
        each.chmod(0o755)
        yield str(each).removeprefix(places.destdir)


def _copy(source: Path, target: Path) -> None:
    """Put a copy there in one step, so that who runs or reads the old file is not disturbed."""
    new = target.with_name(f".{target.name}.new")
    new.unlink(missing_ok=True)
    shutil.copy2(source, new, follow_symlinks=False)
    if not new.is_symlink():
        # Whatever the umask has made of it.
        new.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
    new.replace(target)


def _copy_text(text: str, target: Path) -> None:
    target.write_text(text)
    target.chmod(0o644)


# ---- Python and the packages


def _launcher(places: Places, python: str) -> str:
    # With packages of its own it does without the host's, and starts sooner.
    flags = "-I" if places.no_deps else "-IS"
    if len(f"#!{python} {flags}\n".encode()) > MAX_SHEBANG_BYTES or re.search(r"\s", python):
        raise InstallError(f"{python} cannot stand in a script's first line: use another PYTHON=")
    return LAUNCHER.format(python=python, flags=flags, package=places.package)


def _interpreter(no_deps: bool) -> str:
    """The Python that is to run it: not one of a virtual environment, which goes with that."""
    if no_deps:
        return sys.executable
    # The very version, as some of the packages are for no other.
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def _requirements() -> list[tuple[str, str]]:
    """The packages that it needs, each with its oldest version."""
    setup = configparser.RawConfigParser()
    setup.read(TOP / "setup.cfg")
    wanted = filter(None, setup["options"]["install_requires"].split("\n"))
    return [(name, least) for name, _, least in (each.partition(">=") for each in wanted)]


def _check_packages() -> None:
    lacking = []
    for name, least in _requirements():
        try:
            there = version(name)
        except PackageNotFoundError:
            lacking.append(f"{name} {least} or newer")
            continue
        if _order(there) < _order(least):
            lacking.append(f"{name} {least} or newer ({there} is there)")
    if lacking:
        raise InstallError(
            f"{sys.executable} lacks {', '.join(lacking)}: install that,"
            " or leave NO_DEPS away and let it be fetched"
        )


def _order(number: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", number)]


def _fetch_packages(package: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="cc-proxy-pip-") as directory:
        command = [
            *(_pip(Path(directory)), "-m", "pip", "install", "--quiet", "--no-compile"),
            *("--disable-pip-version-check", "--no-warn-conflicts", "--target", str(package)),
            *(f"{name}>={least}" for name, least in _requirements()),
        ]
        quiet = {"PIP_ROOT_USER_ACTION": "ignore"}
        if subprocess.run(command, env=os.environ | quiet, check=False).returncode:
            raise InstallError(
                "pip could not fetch the packages that cc-proxy needs; to use packages of the"
                f" system instead, install {', '.join(name for name, _ in _requirements())}"
                " and say NO_DEPS=1"
            )
    # Programs with the path of this pip's Python in them, and what nobody runs here.
    for useless in (package / "bin", package / "include", *package.rglob("tests")):
        shutil.rmtree(useless, ignore_errors=True)


def _pip(directory: Path) -> str:
    """Return a Python that has pip: this one, or a new one in ``directory``."""
    if _runs(sys.executable, "-m", "pip", "--version"):
        return sys.executable
    if not _runs(sys.executable, "-m", "venv", str(directory)):
        raise InstallError(
            f"{sys.executable} has no pip: install python3-venv (as root: apt-get install"
            " python3-venv), or use packages of the system with NO_DEPS=1"
        )
    return str(directory / "bin" / "python")


def _runs(*command: str) -> bool:
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0


def _warn_of_homes(python: str) -> None:
    if python.startswith(("/root/", "/home/")):
        print(
            f"make install: {python} is in a home directory, which the systemd units do not let"
            " the daemon see: for them, install with PYTHON=/usr/bin/python3",
            file=sys.stderr,
        )


def _places(settings: Sequence[str]) -> Places:
    values = {name.lower(): value for name, _, value in (each.partition("=") for each in settings)}
    places = Places(**{each.name: values[each.name].rstrip("/") for each in fields(Places)})
    for each in fields(Places):
        value = getattr(places, each.name)
        if value and each.name not in {"no_deps", "shim"} and not value.startswith("/"):
            raise InstallError(f"{each.name.upper()} must be an absolute path, not '{value}'")
    return places


def _refuse_odd(places: Places) -> None:
    for each in fields(Places):
        value = getattr(places, each.name)
        if each.name != "destdir" and (odd := ODD.search(value)):
            raise InstallError(
                f"{each.name.upper()} has {odd[0]!r} in it, which units and scripts would take"
                f" for something else: use another place than '{value}'"
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
