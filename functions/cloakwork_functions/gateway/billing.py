"""The endpoints about money: what was used, invoices, receipts, and what a call would cost.

A key that manages sees its whole account. Any other sees what its own project used and no invoice; but all
receipts, for they are one chain that proves nothing in parts. They hold digests of what was sent, amounts,
and the names of models.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from cloakwork.errors import InputError
from cloakwork.quote import QuoteInput
from cloakwork.sheet import sheet
from cloakwork.usage import Usage, table
from cloakwork.wire import Media, ReceiptPage
from cloakwork_functions.ledger.invoice import Month, invoice
from cloakwork_functions.ledger.page import page
from cloakwork_functions.ledger.statement import Statement
from cloakwork_functions.ledger.usage import Period, usage

from .auth import check_model
from .http import body_size, header, query, read_body, send_answer, send_json
from .quote import quote_all

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from cloakwork_functions.ledger.statement import Work

    from .auth import Auth
    from .service import Service

__all__ = ["Billing"]

BY = "day,model,mode"
DAY = re.compile("20[0-9]{2}-[0-9]{2}-[0-9]{2}")
DAYS = 30
QUESTION_BYTES = 1 << 10
MOST_DIGITS = 15
QUESTION = msgspec.json.Decoder(QuoteInput)
# An invoice shows what people named; whatever gets past its escaping is not run.
LOCKED = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}

RECEIPTS = Statement(
    "SELECT receipt FROM {batch} JOIN receipts ON receipts.account = batch.account "
    "AND sequence > batch.after ORDER BY sequence LIMIT 1000",
    "account text, after bigint",
)


class Billing:
    """The endpoints of one service; each is asked by an account for what is its own."""

    def __init__(self, service: Service, auth: Auth) -> None:
        self._service = service
        self._auth = auth

    async def usage(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """GET /v1/usage?from=DAY&to=DAY&by=day,model&format=csv."""
        who = await self._auth.identify(scope)
        last = _day(scope, "to", datetime.now(UTC).date())
        period = Period(_day(scope, "from", last - timedelta(days=DAYS - 1)), last)
        by = tuple(name for name in query(scope, "by", BY).split(",") if name)
        if who.scope.manage:
            rows = await self._service.store.survey(usage(who.account, period, by))
        else:
            everyone = await self._service.store.survey(usage(who.account, period, {*by, "project"}))
            own = (row for row in everyone if row.project == who.project)
            rows = tuple(row if "project" in by else replace(row, project=None) for row in own)
        found = Usage(period.first.isoformat(), period.last.isoformat(), by, rows)
        if query(scope, "format", "") == "csv" or "text/csv" in (header(scope, "accept") or ""):
            name = f'attachment; filename="usage-{found.since}-{found.until}.csv"'
            await send_answer(send, sheet(table(by, rows)).encode(), Media.CSV, {"content-disposition": name})
        else:
            await send_json(send, found)

    async def invoice(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """GET /v1/invoices/{month}: a page of HTML."""
        account = (await self._auth.identify_manager(scope)).account
        month = Month.parse(scope["path_params"]["month"])
        drawn = await self._service.store.survey(invoice(account, month))
        await send_answer(send, page(drawn).encode(), Media.HTML, LOCKED)

    async def receipts(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """GET /v1/receipts?after=SEQUENCE: a page of what follows; an empty one follows the last."""
        account = (await self._auth.identify(scope)).account
        after = query(scope, "after", "0")
        if not (after.isascii() and after.isdecimal() and len(after) <= MOST_DIGITS):
            raise InputError(
                "bad_request", "A sequence is a whole number, 0 before the first.", param="after"
            )
        texts = await self._service.store.read(_receipts(account, int(after)))
        await send_json(send, ReceiptPage(texts))

    async def quote(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/models/{model}/quote: {"records": n, "privacy": MODE or null}."""
        check_model(await self._auth.identify(scope), scope["path_params"]["model"])
        body = await read_body(receive, body_size(scope, QUESTION_BYTES))
        try:
            asked = QUESTION.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise InputError(
                "bad_json", 'Send {"records": 1} with how many there are, and "privacy" to ask for one mode.'
            ) from None
        await send_json(send, quote_all(self._service, scope["path_params"]["model"], asked))


def _day(scope: Scope, name: str, default: date) -> date:
    text = query(scope, name, "")
    if not text:
        return default
    if DAY.fullmatch(text):
        with suppress(ValueError):
            return date.fromisoformat(text)
    raise InputError("bad_request", "Write a day of this century as YYYY-MM-DD.", param=name)


def _receipts(account: str, after: int) -> Work[tuple[str, ...]]:
    return tuple(receipt for (receipt,) in (yield RECEIPTS([(account, after)])))
