"""Carry the commit id into wheels and sdists; all metadata is in setup.cfg."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

COMMIT = runpy.run_path("ccproxy_lib/version.py")["commit"]()


def write_commit(tree):
    if COMMIT != "unknown":
        Path(tree, "ccproxy_lib", "_commit").write_text(COMMIT + "\n", encoding="utf-8")


class BuildPy(build_py):
    """Wheels have no git to ask, so they are told."""

    def run(self):
        super().run()
        # An editable install runs from the checkout, where git knows better.
        if not self.editable_mode:
            write_commit(self.build_lib)


class Sdist(sdist):
    """A wheel may be built from the sdist, where git is gone already."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        write_commit(base_dir)


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
