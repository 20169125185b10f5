"""Hypothesis profiles: ``fast`` is the default, HYPOTHESIS_PROFILE=deep looks for longer.

``brief`` is for runs that repeat what another has looked at under another Python.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from tests.dispositions import forget_inherited

forget_inherited()

# How fast a machine is says nothing about the code.
_ANY_SPEED = [HealthCheck.too_slow]

# The same examples in each run: a test run never fails by chance.
settings.register_profile(
    "brief",
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=_ANY_SPEED,
)
settings.register_profile(
    "fast",
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=_ANY_SPEED,
)
settings.register_profile(
    "deep",
    max_examples=1000,
    deadline=None,
    suppress_health_check=_ANY_SPEED,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
