"""JSON from the other side, which may have sent anything."""

from __future__ import annotations

import json
from typing import Any


def decode(payload: bytes) -> Any:
    """Return the value of a JSON text; ValueError if it is none, or nested too deeply."""
    try:
        return json.loads(payload)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
