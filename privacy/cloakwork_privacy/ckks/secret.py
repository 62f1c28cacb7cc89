"""A client's own keys. Server code may not import this module; an import contract holds it to that.

The secret key decrypts everything its owner ever sealed. It lives in one file, readable by its owner only,
together with the evaluation keys derived from it: one file, replaced atomically, cannot come apart.

What `open` returns speaks of the secret key. A service that crafts its answers and learns what they open to,
however rounded, reads the key off them (Li and Micciancio, "On the security of homomorphic encryption on
approximate numbers", EUROCRYPT 2021, and any chosen-ciphertext attack). So never let the service, or anyone
who may collude with it, see what `open` returned.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import answer, frames, layout, residues
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.encoder import decode, encode
from cloakwork_privacy.ckks.expand import SEED_BYTES
from cloakwork_privacy.ckks.noise import binomial
from cloakwork_privacy.ckks.public import key_layouts
from cloakwork_privacy.ckks.sealed import Sealed
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from cloakwork_privacy.compiler.signature import Signature

__all__ = ["SecretKeys", "encrypt"]

_FILE: Final = "secret.key"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class SecretKeys:
    """The keys of one client for one program: seals records, opens answers.

    Make them with `generate` or `load`. They do not pickle and do not print what they hold.
    """

    def __init__(self, signature: Signature, secret: Any, evaluation: bytes) -> None:
        self._signature = signature
        self._ring = context(signature.parameters)
        self._secret = secret
        self._evaluation = evaluation
        self._fingerprint = frames.fingerprint(evaluation)
        self._decryptor = seal.Decryptor(self._ring.seal, secret)

    @classmethod
    def generate(cls, signature: Signature) -> SecretKeys:
        """Makes new keys, from the operating system's randomness."""
        ring = context(signature.parameters)
        generator = seal.KeyGenerator(ring.seal)
        secret = generator.secret_key()
        # The binding cannot return a seeded public key; one is an encryption of zero at the keys' level.
        made = [seal.Encryptor(ring.seal, secret).encrypt_zero_symmetric(ring.key_id)]
        if signature.relinearise_level:
            made.append(generator.create_relin_keys())
        if signature.rotations:
            # The binding takes these for Galois elements, not for steps.
            made.append(
                generator.create_galois_keys([ring.galois_element(step) for step in signature.rotations])
            )
        parts = tuple(kind.pack(key) for kind, key in zip(key_layouts(ring, signature), made, strict=True))
        program = bytes.fromhex(signature.digest)
        evaluation = frames.encode(frames.Frame(frames.Kind.EVALUATION_KEYS, program, bytes(32), parts))
        return cls(signature, secret, evaluation)

    @classmethod
    def load(cls, folder: str | Path, signature: Signature) -> SecretKeys:
        """Reads keys that `save` wrote.

        Raises:
            FileNotFoundError: There are none.
            PrivacyError: `key_file_unprotected`, `key_file_damaged`, `keys_for_another_program`.
        """
        path = Path(folder) / _FILE
        _protected(Path(folder), "700")
        _protected(path, "600")
        ring = context(signature.parameters)
        kind = layout.secret_key(ring)
        most = max(kind.wire_bytes, 1024 + sum(key.wire_bytes for key in key_layouts(ring, signature)))
        try:
            frame = frames.decode(path.read_bytes(), frames.Kind.SECRET_KEY, most_parts=2, most_bytes=most)
            key, evaluation = frame.parts
        except (PrivacyError, ValueError):
            raise _damaged(path) from None
        if frame.program.hex() != signature.digest:
            raise PrivacyError(
                "keys_for_another_program", f"{path} holds keys of another program; make new ones."
            )
        if frames.fingerprint(evaluation) != frame.keys or len(key) != kind.wire_bytes:
            raise _damaged(path)
        return cls(signature, kind.unpack(key, seal.SecretKey(), ring, "key_file_damaged"), evaluation)

    def save(self, folder: str | Path) -> None:
        """Writes the keys into a folder of their own, made with mode 0700 where missing; the file has 0600.

        Raises:
            PrivacyError: `key_file_unprotected`, when the folder exists and others may enter it.
        """
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        _protected(folder, "700")
        key = layout.secret_key(self._ring).pack(self._secret)
        program = bytes.fromhex(self._signature.digest)
        frame = frames.Frame(frames.Kind.SECRET_KEY, program, self._fingerprint, (key, self._evaluation))
        _replace(folder / _FILE, frames.encode(frame))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the evaluation keys' frame, hex: what the server knows these keys by."""
        return self._fingerprint.hex()

    def evaluation_keys(self) -> bytes:
        """The EVALUATION_KEYS frame to give the server, the same bytes every time."""
        return self._evaluation

    def seal(self, records: ArrayLike) -> bytes:
        """Encrypts records into a REQUEST frame: one ciphertext each, or one for each of their features.

        Args:
            records: (n, *input_shape) of real numbers, n at most the program's `max_records`.

        Raises:
            PrivacyError: As `Signature.prepare`.
        """
        signature, ring = self._signature, self._ring
        level, kind = signature.parameters.levels, Sealed(ring, signature.scale)
        parts, prepared = [], signature.prepare(records)
        count = prepared.shape[1 if signature.packing == "features" else 0]
        if signature.packing == "features":
            # The records again and again, as far as the period and as far as the slots: see `ckks.answer`.
            period = signature.repeats(count) or 0
            prepared = prepared[:, np.arange(signature.parameters.slots) % period % count]
        for vector in prepared:
            plain = encode(ring, signature.packing, vector, signature.scale, level)
            parts.append(encrypt(kind, plain, self._decryptor))
        program = bytes.fromhex(signature.digest)
        return frames.encode(
            frames.Frame(frames.Kind.REQUEST, program, self._fingerprint, tuple(parts), count)
        )

    def open(self, frame: bytes, request: bytes) -> NDArray[np.float64]:
        """Decrypts an ANSWER frame to outputs (n, *output_shape), float64, rounded to five digits.

        Never let the service, or anyone who may collude with it, see what this returns: answers can be
        crafted so that their opening, rounded or not, gives the secret key away.

        Args:
            frame: The answer.
            request: What `seal` returned. The answer must name it and hold as many records, so that answers
                cannot be mixed up; a service that means to lie is not found out by this.

        Raises:
            PrivacyError: `frame_invalid`, `wrong_program`, `wrong_keys`, `too_many_records`,
                `answer_invalid`, `answer_out_of_range`.
        """
        return self._signature.finished(self.logits(frame, request))

    def logits(self, frame: bytes, request: bytes) -> NDArray[np.float64]:
        """As `open`, before finishing: (n, len(take)), float64, unrounded. Keep them to yourself as well.

        Raises:
            PrivacyError: As `open`.
        """
        signature, ring = self._signature, self._ring
        most = 8 * 2 * signature.parameters.poly_degree
        read = frames.decode(
            frame,
            frames.Kind.ANSWER,
            most_parts=1 + signature.answered(signature.max_records),
            most_bytes=most,
            most_records=signature.max_records,
        )
        if read.program.hex() != signature.digest:
            raise PrivacyError(
                "wrong_program", "This answer comes from another program; ask the one these keys fit."
            )
        if read.keys != self._fingerprint:
            raise PrivacyError("wrong_keys", "This answer is encrypted under other keys; open it with those.")
        if not read.parts or read.parts[0] != frames.fingerprint(request):
            raise PrivacyError("answer_invalid", "This is the answer to another request; ask again.")
        records = frames.peek(request).records
        if (read.records, len(read.parts)) != (records, 1 + signature.answered(records)):
            raise PrivacyError("answer_invalid", "The answer holds more or fewer records than the request.")
        rows = []
        for part in read.parts[1:]:
            plain = seal.Plaintext()
            self._decryptor.decrypt(answer.restore(ring, signature, part, records), plain)
            rows.append(answer.pick(signature, decode(ring, signature.packing, plain), records))
        logits = np.array(rows)
        if signature.packing == "features":
            logits = logits.T
        if not (np.abs(logits) <= signature.answer_limit).all():
            # Sums that wrapped around the modulus look random, and are as large as the modulus.
            raise PrivacyError(
                "answer_out_of_range", "The record is unlike those the model was calibrated on; no answer."
            )
        return logits

    def __repr__(self) -> str:
        return f"SecretKeys(fingerprint={self.fingerprint!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secret keys do not pickle; save() them and load() them where they are needed")


def encrypt(kind: Sealed, plain: Any, decryptor: Any) -> bytes:
    """A fresh symmetric encryption under a secret key s, (m + e - a s, a), with a as its seed.

    As SEAL's own, but for the seed's expansion. SEAL keeps s to itself, so its decryption does the product:
    what (m + e, -a) decrypts to is m + e - a s.

    Args:
        kind: What is made.
        plain: SEAL plaintext m, at the level and scale of `kind`.
        decryptor: SEAL's, with the secret key.
    """
    ring, seed = kind.ring, secrets.token_bytes(SEED_BYTES)
    _, level, degree = kind.shape
    drawn = binomial(degree).astype(np.int64)
    noise = residues.make(
        ring, residues.centred(ring, level, np.stack((drawn, drawn))), kind.scale, ntt=False
    )
    ring.evaluator.transform_to_ntt_inplace(noise)  # twice: SEAL transforms two polynomials and more
    words = residues.read(noise)
    kind.second(seed, words[1])
    primes = np.array(ring.primes[:level], np.uint64)[:, None]
    words[1] = (primes - words[1]) % primes
    item, first = residues.make(ring, words, kind.scale), seal.Plaintext()
    ring.evaluator.add_plain_inplace(item, plain)
    decryptor.decrypt(item, first)
    return kind.pack(residues.read_plain(first, (level, degree)), seed)


def _protected(path: Path, mode: str) -> None:
    """Refuses a path that anyone but its owner may use."""
    if stat.S_IMODE(path.stat().st_mode) & _OTHERS:
        raise PrivacyError(
            "key_file_unprotected", f"Others on this machine may use {path}; run: chmod {mode} {path}"
        )


def _damaged(path: Path) -> PrivacyError:
    return PrivacyError("key_file_damaged", f"{path} is damaged; restore it from a backup or make new keys.")


def _replace(path: Path, data: bytes) -> None:
    """Writes a file that is private from its first byte and appears whole or not at all."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
