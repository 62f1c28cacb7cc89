"""API keys and money: a durable hold before a call runs, one settlement or release after it."""

from .keys import ApiKey, Keys
from .ledger import Charge, Ledger

__all__ = ["ApiKey", "Charge", "Keys", "Ledger"]
