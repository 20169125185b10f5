"""What only its holder can know."""

from __future__ import annotations

import base64
import os

TOKEN_BYTES = 32


def new_token() -> str:
    """Return 32 random bytes in padded base64url, 44 characters; real shims insist on those."""
    # Not the module secrets, which would load all of OpenSSL for this.
    return base64.urlsafe_b64encode(os.urandom(TOKEN_BYTES)).decode()
