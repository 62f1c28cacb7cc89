"""Pure computing for private inference: anonymisation, CKKS encryption and the compiler between them.

Nothing here opens a socket or knows of a server. `errors`, `ckks.frames` and `compiler.program` import
without the encryption engine, so that a gateway can check a request's label without loading it.
"""

from __future__ import annotations

from cloakwork_privacy.errors import PrivacyError

__all__ = ["PrivacyError"]
