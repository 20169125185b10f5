"""Values of limits that nobody means: one sentence that says what is right."""

from __future__ import annotations

import pytest

from ccproxy_lib.errors import UsageError
from ccproxy_lib.front.limit_flags import parse_limits


@pytest.mark.parametrize("flag", ["session-spool", "max-payload", "max-vms", "token-ttl"])
def test_a_number_with_thousands_of_digits(flag: str) -> None:
    with pytest.raises(UsageError, match=f"^flag -{flag} needs a (whole )?number "):
        parse_limits({f"--{flag}": "9" * 5000})
