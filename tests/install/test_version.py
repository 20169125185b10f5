"""One version line, from wherever the program runs."""

from __future__ import annotations

import re
import sys

import pytest

from tests.install.conftest import BUILD_TIMEOUT_S, make, run

pytestmark = [pytest.mark.system, pytest.mark.timeout(BUILD_TIMEOUT_S)]

# No git can be found.
WITHOUT_GIT = {"PATH": "/nonexistent"}


@pytest.fixture(scope="module")
def version(checkout) -> str:
    """What the program says in its repository."""
    commit = run("git", "rev-parse", "--short", "HEAD", cwd=checkout).strip()
    line = run(sys.executable, "ccproxy.py", "-version", cwd=checkout)
    if "$Format:" not in (checkout / "ccproxy_lib" / "version.py").read_text():
        pytest.skip("these sources are from a tarball, and so keep its commit")
    assert re.fullmatch(rf"Version: \d+\.\d+\.\d+-{commit}\n", line), line
    return line


def test_a_tarball_has_the_version_of_its_commit(version, tarball):
    assert not (tarball / ".git").exists()
    assert run(sys.executable, "ccproxy.py", "-version", cwd=tarball, env=WITHOUT_GIT) == version


@pytest.mark.parametrize("source", ["checkout", "tarball"])
def test_pip_install_gives_the_command_with_its_version(version, source, request, tmp_path):
    pytest.importorskip("setuptools", reason="without it nothing can be built")
    # In the environment's own, and so without a registry.
    flags = ("--no-build-isolation", "--no-deps", "--quiet", "--target", tmp_path / "there")
    run(
        *(sys.executable, "-m", "pip", "install", *flags, "."),
        cwd=request.getfixturevalue(source),
        env={"PIP_ROOT_USER_ACTION": "ignore", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    command = tmp_path / "there" / "bin" / "cc-proxy"
    env = WITHOUT_GIT | {"PYTHONPATH": str(tmp_path / "there")}
    assert run(command, "-version", cwd=tmp_path, env=env) == version


def test_make_install_keeps_the_version(version, checkout, installed, tmp_path):
    of_tarball = run(installed / "bin" / "cc-proxy", "-version", cwd=tmp_path, env=WITHOUT_GIT)
    assert of_tarball == version
    prefix = tmp_path / "prefix"
    make(checkout, "install", f"PREFIX={prefix}", "NO_DEPS=1")
    assert run(prefix / "bin" / "cc-proxy", "-version", cwd=tmp_path, env=WITHOUT_GIT) == version
