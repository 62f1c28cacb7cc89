"""API keys and money: a durable hold before a call runs, one settlement or release after it."""

from .apikey import ApiKey, Identity, Limits
from .jobs import Charge, End, Ended, Held, Outcome, Replay
from .keys import Keys
from .ledger import Ledger
from .open import open_store
from .prices import Catalogue
from .rate import headers as rate_headers
from .secrets import Secrets
from .signing import SigningKeys
from .store import Store, UnconfirmedError

__all__ = [
    "ApiKey",
    "Catalogue",
    "Charge",
    "End",
    "Ended",
    "Held",
    "Identity",
    "Keys",
    "Ledger",
    "Limits",
    "Outcome",
    "Replay",
    "Secrets",
    "SigningKeys",
    "Store",
    "UnconfirmedError",
    "open_store",
    "rate_headers",
]
