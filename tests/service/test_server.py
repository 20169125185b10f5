"""How often the daemon looks for what nobody has come for."""

from __future__ import annotations

import pytest

from ccproxy_lib.service.server import collect_every_s
from ccproxy_lib.state.limits import Limits


@pytest.mark.parametrize(
    ("token_ttl_s", "orphan_ttl_s", "every_s"),
    [
        (600.0, 3600.0, 30.0),
        (600.0, 4.0, 1.0),
        (0.4, 3600.0, 0.1),
        (1e-300, 3600.0, 0.02),  # and not without a break
    ],
)
def test_so_often(token_ttl_s: float, orphan_ttl_s: float, every_s: float) -> None:
    limits = Limits(token_ttl_s=token_ttl_s, orphan_ttl_s=orphan_ttl_s)
    assert collect_every_s(limits) == every_s
