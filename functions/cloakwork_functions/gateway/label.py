"""What a frame says of itself, judged before the rest of it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloakwork.errors import PrivacyError, error
from cloakwork_privacy.ckks.frames import Kind, peek
from cloakwork_privacy.errors import PrivacyError as Refusal

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["check_label"]


def check_label(head: bytes, programs: Collection[bytes]) -> None:
    """Check from its first bytes that a frame holds evaluation keys for one of these programs.

    Raises:
        PrivacyError: `frame_invalid`, `secret_key_refused` or `keys_for_another_program`.
    """
    try:
        label = peek(head)
    except Refusal as refusal:
        raise error(refusal.code, str(refusal)) from None
    if label.kind is Kind.SECRET_KEY:
        raise PrivacyError(
            "secret_key_refused",
            "This frame holds a secret key, which never leaves its owner. Discard it and make new keys.",
        )
    if label.kind is not Kind.EVALUATION_KEYS:
        raise PrivacyError("frame_invalid", "This frame holds no evaluation keys; upload those.")
    if label.program not in programs:
        raise PrivacyError(
            "keys_for_another_program",
            "These keys were made for another model or version; read the card and make them anew.",
        )
