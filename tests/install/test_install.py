"""make install and make uninstall, as packagers and operators use them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import PATIENCE_S, Client, SandboxVm, container, wait_until
from tests.install.conftest import BUILD_TIMEOUT_S, Failed, make, run

pytestmark = [pytest.mark.system, pytest.mark.timeout(BUILD_TIMEOUT_S)]

# With all that a system may have.
EVERYTHING = (
    *("UNITDIR=/usr/lib/systemd/system", "TMPFILESDIR=/usr/lib/tmpfiles.d"),
    *("OPENRCDIR=/etc/init.d", "SHIM=1"),
)
PROGRAM = "/usr/libexec/clear-containers/cc-proxy"


def tree(directory: Path) -> set[str]:
    """All files and directories in it; the directories with a slash."""
    return {
        f"{path.relative_to(directory)}{'/' * (path.is_dir() and not path.is_symlink())}"
        for path in directory.rglob("*")
    }


def make_fails(checkout: Path, *arguments: str) -> str:
    """Run make, which must fail, and return what is said."""
    with pytest.raises(Failed) as failure:
        make(checkout, *arguments)
    said = str(failure.value)
    assert "Traceback" not in said
    return said


# ---- as a packager: into a directory that stands for a system


@pytest.fixture(scope="module")
def staged(tarball, tmp_path_factory):
    """The directory, which is a system that has a few things already."""
    directory = tmp_path_factory.mktemp("staged")
    (directory / "usr" / "share" / "man" / "man8").mkdir(parents=True)
    (directory / "usr" / "bin").mkdir()
    (directory / "usr" / "bin" / "other").write_text("somebody else's")
    before = tree(directory)
    # What the caller's umask is must not matter.
    umask = os.umask(0o077)
    try:
        make(tarball, "install", f"DESTDIR={directory}", "NO_DEPS=1", *EVERYTHING)
    finally:
        os.umask(umask)
    yield directory
    make(tarball, "uninstall", f"DESTDIR={directory}")
    assert tree(directory) == before


def test_everything_is_where_its_users_look(staged):
    wanted = {
        "usr/libexec/clear-containers/cc-proxy",
        "usr/libexec/clear-containers/cc-shim",
        "usr/bin/cc-proxy",
        "usr/lib/systemd/system/cc-proxy.service",
        "usr/lib/systemd/system/cc-proxy@.service",
        "usr/lib/systemd/system/cc-proxy.socket",
        "usr/lib/systemd/system/cc-proxy-metrics.socket",
        "usr/lib/tmpfiles.d/cc-proxy.conf",
        "etc/init.d/cc-proxy",
        "usr/share/man/man8/cc-proxy.8",
        "usr/share/bash-completion/completions/cc-proxy",
        "usr/share/doc/cc-proxy/README.md",
        "usr/share/doc/cc-proxy/LICENSE",
        "usr/share/doc/cc-proxy/docs/LIMITS.md",
        "usr/share/cc-proxy/selinux/README.md",
    }
    assert not wanted - tree(staged)
    assert os.readlink(staged / "usr/bin/cc-proxy") == "../libexec/clear-containers/cc-proxy"


def test_nothing_knows_where_it_was_staged(staged, tarball):
    for path in staged.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for directory in (staged, tarball):
                assert str(directory).encode() not in content, path
            assert b"cc-proxy-install-" not in content, path


def test_templates_are_filled_in(staged):
    unit = (staged / "usr/lib/systemd/system/cc-proxy.service").read_text()
    assert f"\nExecStart={PROGRAM}\n" in unit
    assert f'\ncommand="{PROGRAM}"\n' in (staged / "etc/init.d/cc-proxy").read_text()
    for path in (*staged.glob("usr/lib/systemd/system/*"), *staged.glob("usr/lib/*.d/*")):
        assert not re.search(r"@[A-Z]+@", path.read_text()), path


def test_all_may_read_it_and_only_root_may_write(staged):
    programs = {"cc-proxy", "cc-shim"}
    for name in tree(staged) - {"usr/bin/other"}:
        path = staged / name
        if path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        is_program = path.name in programs and path.parent.name in {"clear-containers", "init.d"}
        if not name.endswith("/"):
            assert mode == (0o755 if is_program else 0o644), name
        elif name.startswith("usr/lib"):
            assert mode == 0o755, name


def test_with_no_deps_it_runs_on_the_packages_of_the_system(staged):
    first = (staged / PROGRAM[1:]).read_text().splitlines()[0]
    assert first == f"#!{sys.executable} -I"
    assert tree(staged / "usr/lib/cc-proxy") >= {"ccproxy_lib/", "installed"}
    assert not list((staged / "usr/lib/cc-proxy").glob("*gevent*"))


def test_what_a_system_does_not_have_is_left_out(tarball, tmp_path):
    make(tarball, "install", f"DESTDIR={tmp_path}", "NO_DEPS=1", "UNITDIR=", "OPENRCDIR=")
    assert not [name for name in tree(tmp_path) if "systemd" in name or "tmpfiles" in name]
    assert not (tmp_path / "etc").exists()
    assert not (tmp_path / "usr/libexec/clear-containers/cc-shim").exists()


def test_the_shim_is_one_under_its_own_name(staged, tmp_path):
    # Staged, it is not yet where it looks for its modules.
    shim = staged / "usr/libexec/clear-containers/cc-shim"
    here = tmp_path / "cc-shim"
    here.write_text(shim.read_text().replace('"/usr/lib', f'"{staged}/usr/lib'))
    here.chmod(0o755)
    assert run(here, "--help", cwd=tmp_path).startswith("cc-proxy shim: ")


def test_packages_of_the_system_that_are_too_old_are_named(tarball, tmp_path, monkeypatch):
    old = tmp_path / "old" / "gevent-1.0.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: gevent\nVersion: 1.0\n")
    monkeypatch.setenv("PYTHONPATH", str(old.parent))
    said = make_fails(tarball, "install", f"PREFIX={tmp_path}/prefix", "NO_DEPS=1")
    assert re.match(r"make install: \S+ lacks gevent [\d.]+ or newer \(1.0 is there\): ", said)
    assert not (tmp_path / "prefix").exists()


def test_a_relative_place_is_refused(tarball, tmp_path):
    said = make_fails(tarball, "install", f"DESTDIR={tmp_path}", "LIBDIR=lib", "NO_DEPS=1")
    assert said.startswith("make install: LIBDIR must be an absolute path, not 'lib'\n")
    assert tree(tmp_path) == set()


@pytest.mark.parametrize("odd", [" ", "%", '"', "\\"])
def test_a_place_that_units_would_misread_is_refused(tarball, tmp_path, odd):
    said = make_fails(tarball, "install", f"PREFIX={tmp_path}/a{odd}b", "NO_DEPS=1")
    assert said.startswith(f"make install: BINDIR has {odd!r} in it, ")
    assert tree(tmp_path) == set()
    # What is there from before may go.
    make(tarball, "uninstall", f"PREFIX={tmp_path}/a{odd}b")


def test_it_may_be_staged_anywhere(tarball, tmp_path):
    where = f'DESTDIR={tmp_path}/100% "here"'
    make(tarball, "install", where, "NO_DEPS=1")
    assert (tmp_path / '100% "here"' / PROGRAM[1:]).exists()
    make(tarball, "uninstall", where, "NO_DEPS=1")
    assert tree(tmp_path) == {'100% "here"/'}


def test_a_place_that_cannot_be_written_to_is_named(tarball, tmp_path):
    (tmp_path / "usr").write_text("a file")
    said = make_fails(tarball, "install", f"DESTDIR={tmp_path}", "NO_DEPS=1")
    assert said.startswith(f"make install: {tmp_path}/usr")
    assert tree(tmp_path) == {"usr"}


# ---- as an operator: into a system, with all that it needs


def test_it_serves_through_socket_activation(installed, tmp_path):
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd-socket-activate is not installed (Debian: systemd)")
    unit = (installed / "lib/systemd/system/cc-proxy.service").read_text()
    (program,) = re.findall(r"^ExecStart=(\S+)$", unit, re.M)
    path = tmp_path / "proxy.sock"
    # Nothing of the tests' environment may help it.
    clean = ("env", "-i", f"PATH={os.environ['PATH']}", f"TMPDIR={tmp_path}")
    with open(tmp_path / "log", "wb") as log:
        daemon = subprocess.Popen(
            [*clean, activate, "-l", path, program, "-ksm", "initial", "-log", "info"],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    vm = SandboxVm(tmp_path / "vm")
    try:
        wait_until(lambda: listens(path), "the socket is there")
        run_a_process(path, vm)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE_S) == 0, (tmp_path / "log").read_text()
    finally:
        daemon.kill()
        daemon.wait()
        vm.stop()
    assert "Traceback" not in (tmp_path / "log").read_text()


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        return True
    return False


def run_a_process(path: Path, vm: SandboxVm) -> None:
    with Client(str(path)) as runtime, Client(str(path)) as shim:
        (token,) = runtime.register(vm, "c1", streams=1)
        shim.call(Command.CONNECT_SHIM, {"token": token})
        runtime.hyper("newcontainer", container("c1", "sh", "-c", "cat; exit 3"), token)
        shim.stdin(b"through the proxy")
        shim.stdin(b"")
        assert shim.collect() == (b"through the proxy", b"", 3)
        runtime.unregister("c1")


def test_it_needs_no_package_of_the_system(installed):
    first = (installed / "libexec/clear-containers/cc-proxy").read_text().splitlines()[0]
    # Without site, no other package can be found; and no virtual environment is needed.
    assert first.endswith(" -IS")
    assert not first.startswith(f"#!{sys.prefix}/") or sys.prefix == sys.base_prefix
    assert (installed / "lib/cc-proxy/gevent").is_dir()
    assert (
        run(installed / "bin/cc-proxy", "demo", "--", "echo", "hello", cwd=Path("/")) == "hello\n"
    )


def test_its_demo_names_it(installed):
    shown = run(installed / "bin/cc-proxy", "demo", cwd=Path("/"))
    assert shown.endswith(" Try:  cc-proxy demo -- bash\n")


def test_the_links_in_its_documents_lead_somewhere(installed):
    documents = [*(installed / "share/doc/cc-proxy").rglob("*.md")]
    assert len(documents) > 8
    for document in documents:
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
            assert target.startswith("https:") or (document.parent / target).exists(), target


def test_it_is_compiled_already(installed):
    """The daemon may write nowhere, and so could not keep what it has compiled."""
    before = tree(installed)
    run(installed / "bin/cc-proxy", "-help", cwd=Path("/"))
    assert tree(installed) == before
