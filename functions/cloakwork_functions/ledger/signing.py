"""The keys that sign receipts: one signs, those before it stay published, all are in the database.

Private halves are sealed under the service's secret before they get there.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloakwork.jwks import decode64, encode64, jwks_of, thumbprint
from cloakwork.receipts import Receipt, compact, message

from .statement import Statement

if TYPE_CHECKING:
    from cloakwork.price import Line

    from .books import Account
    from .jobs import End
    from .secrets import Secrets
    from .statement import Row, Work
    from .store import Store

__all__ = ["Signed", "Signer", "SigningKeys"]

SALT_BYTES = 16
PURPOSE = "signing-key"

KEYS = Statement("SELECT id, public, private, retired FROM signing_keys ORDER BY created DESC, id")
RETIRE = Statement(
    "UPDATE signing_keys SET retired = batch.at FROM {batch} WHERE retired IS NULL", "at bigint"
)
# One key signs at a time: of two gateways that add one at once, the second finds the first's.
ADD = Statement(
    "INSERT INTO signing_keys (id, public, private, created) "
    "SELECT id, public, private, created FROM {batch} "
    "WHERE NOT EXISTS (SELECT 1 FROM signing_keys WHERE retired IS NULL) ON CONFLICT DO NOTHING",
    "id text, public text, private text, created bigint",
)


class Signed(NamedTuple):
    """A receipt as it is stored and sent, and what the next one names as its previous."""

    text: str
    hash: str


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signs; `id` is its thumbprint."""

    id: str
    private: Ed25519PrivateKey = field(repr=False)

    def sign(self, receipt: Receipt) -> Signed:
        """Sign a receipt that names this key."""
        assert receipt.key == self.id, "a receipt names the key that signs it"
        canonical = receipt.canonical
        text = compact(canonical, self.private.sign(message(canonical)))
        return Signed(text, hashlib.sha256(canonical).hexdigest())


class SigningKeys:
    """The service's signing keys, as this gateway knows them since it last looked; call `refresh` first.

    Args:
        store: where they are, shared by all gateways.
        secrets: what seals them.
    """

    def __init__(self, store: Store, secrets: Secrets) -> None:
        self._store = store
        self._secrets = secrets
        self._salt_key = secrets.derive("receipt-salt")
        self._signer: Signer | None = None
        self._publics: list[bytes] = []

    async def refresh(self) -> None:
        """Look which keys there are, and make the first if there is none.

        A key that was retired signs until its gateway looks again; it stays published, so nothing is lost.

        Raises:
            BusyError: `ledger_unavailable`.
            ConfigError: `bad_secret`, the key was sealed under another secret than this gateway's.
        """
        rows = await self._store.read(_keys())
        if all(row[3] is not None for row in rows):
            rows = await self._store.transact(_add(self._new()))
        name, _, private, _ = next(row for row in rows if row[3] is None)
        if self._signer is None or self._signer.id != name:
            seed = self._secrets.open(PURPOSE, private, name.encode())
            self._signer = Signer(name, Ed25519PrivateKey.from_private_bytes(seed))
        self._publics = [decode64(row[1]) for row in rows]

    async def rotate(self) -> str:
        """Sign with a new key from now on, and give its name. The old one stays published.

        Raises:
            BusyError: `ledger_unavailable`.
        """
        await self._store.transact(_rotate(self._new()))
        await self.refresh()
        return self._current().id

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The document that publishes every key, newest first."""
        return jwks_of(self._publics)

    def salt(self, run: str) -> bytes:
        """The salt of a run's digests: for whoever called, again and again, and for nobody else."""
        return hashlib.blake2b(run.encode(), key=self._salt_key, digest_size=SALT_BYTES).digest()

    def receipt(self, account: Account, end: End, lines: tuple[Line, ...], amount: int, now: int) -> Signed:
        """Make the next receipt of an account: for the run that `end` ends.

        Raises:
            ReceiptError: `receipt_invalid`, it would not verify: a fault of ours.
        """
        signer = self._current()
        receipt = Receipt(
            account=account.id,
            sequence=account.receipts + 1,
            previous=account.head,
            run=end.charge.run,
            at=now,
            model=end.charge.exact,
            model_digest=end.charge.model_digest,
            mode=end.charge.mode,
            outcome=end.outcome,
            request=end.request,
            answer=end.answer,
            quantities=dict(end.quantities),
            price=end.charge.price.version,
            lines=lines,
            amount=amount,
            key=signer.id,
        )
        return signer.sign(receipt)

    def _current(self) -> Signer:
        assert self._signer is not None, "refresh the keys first"
        return self._signer

    def _new(self) -> Row:
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        name = thumbprint(public)
        sealed = self._secrets.seal(PURPOSE, private.private_bytes_raw(), name.encode())
        return name, encode64(public), sealed, int(time.time())


def _keys() -> Work[list[tuple[Any, ...]]]:
    return (yield KEYS())


def _add(key: Row) -> Work[list[tuple[Any, ...]]]:
    yield ADD([key])
    return (yield KEYS())


def _rotate(key: Row) -> Work[None]:
    yield RETIRE([(key[3],)])
    yield ADD([key])
