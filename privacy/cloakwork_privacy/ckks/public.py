"""The public half of a client's keys: all the server ever holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tenseal.sealapi as seal

from cloakwork_privacy.ckks import frames, layout, residues
from cloakwork_privacy.ckks.context import Context, context
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from cloakwork_privacy.compiler.signature import Signature

__all__ = ["EvaluationKeys", "key_layouts"]


@dataclass(frozen=True)
class EvaluationKeys:
    """A client's keys for one program, parsed. Holds SEAL objects: make it in the process that uses it.

    Attributes:
        program: Digest of the program's signature, hex.
        fingerprint: SHA-256 of the frame they came in, hex.
        mask: The public key modulo the first prime, as a ciphertext at level 1, to mask answers.
        relinearisation, galois: Key switching keys; None where the program needs none.
    """

    program: str
    fingerprint: str
    mask: Any
    relinearisation: Any | None
    galois: Any | None

    @classmethod
    def parse(cls, signature: Signature, data: bytes) -> EvaluationKeys:
        """Reads an EVALUATION_KEYS frame for a program; the parameters are the program's, never the client's.

        Raises:
            PrivacyError: `frame_invalid`, `secret_key_refused`, `keys_for_another_program`,
                `evaluation_keys_invalid`.
        """
        ring = context(signature.parameters)
        layouts = key_layouts(ring, signature)
        # Twice what fits, so that a secret key sent by mistake is recognised rather than just too large.
        most = 2 * max(kind.wire_bytes for kind in layouts)
        frame = frames.decode(data, frames.Kind.EVALUATION_KEYS, most_parts=3, most_bytes=most)
        if frame.program.hex() != signature.digest:
            raise PrivacyError(
                "keys_for_another_program",
                "These keys were made for another program; make keys for this one.",
            )
        if len(frame.parts) != len(layouts):
            raise PrivacyError(
                "evaluation_keys_invalid",
                f"This program needs {len(layouts)} keys, the frame has {len(frame.parts)}.",
            )
        parsed = [
            kind.unpack(part, empty(), ring, "evaluation_keys_invalid")
            for kind, part, empty in zip(layouts, frame.parts, _empty(signature), strict=True)
        ]
        rest = iter(parsed[1:])
        return cls(
            program=signature.digest,
            fingerprint=frames.fingerprint(data).hex(),
            mask=residues.make(ring, residues.read(parsed[0].data())[:, :1], 1.0),
            relinearisation=next(rest) if signature.relinearise_level else None,
            galois=next(rest) if signature.rotations else None,
        )


def key_layouts(ring: Context, signature: Signature) -> list[layout.Layout]:
    """A program's evaluation keys in order: public, then relinearisation and Galois where needed."""
    layouts = [layout.public_key(ring)]
    if signature.relinearise_level:
        layouts.append(layout.relinearisation_keys(ring, signature.relinearise_level))
    if signature.rotations:
        turns = zip(signature.rotations, signature.rotation_levels, strict=True)
        layouts.append(layout.galois_keys(ring, tuple(turns)))
    return layouts


def _empty(signature: Signature) -> list[Any]:
    """SEAL's classes of those parts."""
    kinds = [seal.PublicKey]
    if signature.relinearise_level:
        kinds.append(seal.RelinKeys)
    if signature.rotations:
        kinds.append(seal.GaloisKeys)
    return kinds
