"""`cloakwork receipts`: fetch an account's receipts, and check them offline."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cloakwork.chain import verify_chain
from cloakwork.client import Client
from cloakwork.errors import InputError, ReceiptError
from cloakwork.jwks import keys_of
from cloakwork.price import UNITS
from cloakwork.receipts import recount, verify
from cloakwork.wire import usd

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from cloakwork.chain import Summary
    from cloakwork.jwks import Keys
    from cloakwork.receipts import Receipt

__all__ = ["HELP", "configure", "run"]

HELP = "fetch an account's receipts, and check them offline"


def configure(parser: ArgumentParser) -> None:
    """Describe the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("verify", help="check one receipt, or a whole chain of them")
    check.add_argument("file", help="receipts, one a line or as a JSON list; - for standard input")
    check.add_argument("--keys", type=Path, help="the service's JWKS document (default: fetch it)")
    check.add_argument("--start", type=Path, help="a trusted receipt that the chain goes on from")
    check.add_argument("--request", type=Path, help="recount one receipt: the body that was sent,")
    check.add_argument("--answer", type=Path, help="the body that came back,")
    check.add_argument("--salt", help="and the salt beside it, in hex")
    export = actions.add_parser("export", help="fetch the receipts of your account, one a line")
    export.add_argument("--since", type=int, default=0, metavar="SEQ", help="only those after this one")
    export.add_argument("--out", type=Path, help="the file to write (default: standard output)")


def run(arguments: Namespace) -> int:
    """Do it; a receipt that is bad is an error."""
    if arguments.action == "export":
        _export(arguments.since, arguments.out)
        return 0
    texts = _texts(_read(arguments.file))
    keys = _keys(arguments.keys)
    evidence = arguments.request, arguments.answer, arguments.salt
    if any(evidence):
        if not all(evidence) or len(texts) != 1:
            raise InputError("bad_request", "To recount, give one receipt, --request, --answer and --salt.")
        receipt = verify(texts[0], keys)
        _print_receipt(receipt)
        _recount(receipt, *evidence)
    elif len(texts) == 1 and arguments.start is None:
        _print_receipt(verify(texts[0], keys))
    else:
        start = verify(_texts(_read(arguments.start))[-1], keys) if arguments.start else None
        _print_chain(verify_chain(texts, keys, start=start))
    return 0


def _export(since: int, out: Path | None) -> None:
    with Client() as client:
        lines = "".join(f"{text}\n" for text in client.receipts(after=since))
    if out is None:
        sys.stdout.write(lines)
    else:
        out.write_text(lines, "ascii")


def _keys(path: Path | None) -> Keys:
    if path is None:
        with Client() as client:
            return client.receipt_keys()
    try:
        return keys_of(json.loads(path.read_text("utf-8")))
    except ValueError:
        raise ReceiptError("receipt_keys_invalid", f"{path} is no JSON.") from None


def _read(source: Path | str) -> str:
    try:
        return sys.stdin.read() if source == "-" else Path(source).read_text("ascii")
    except UnicodeDecodeError:
        raise ReceiptError("receipt_invalid", f"{source} is no text; receipts are plain ASCII.") from None


def _texts(text: str) -> list[str]:
    """The receipts in a file; those that are none are found when they are verified."""
    try:
        listed = json.loads(text)
    except ValueError:
        listed = text.split()
    if not isinstance(listed, list) or not listed:
        raise ReceiptError("receipt_invalid", "There are no receipts to check.")
    return listed


def _recount(receipt: Receipt, request: Path, answer: Path, salt: str) -> None:
    try:
        opened = bytes.fromhex(salt)
    except ValueError:
        raise InputError("bad_request", "The salt is 32 hexadecimal digits.", param="salt") from None
    counted = recount(receipt, opened, request.read_bytes(), answer.read_bytes())
    agreed = ", ".join(f"{count} {unit}" for unit, count in counted.items())
    print(f"recounted from the bodies: {agreed}")  # noqa: T201


def _print_receipt(receipt: Receipt) -> None:
    print(  # noqa: T201
        f"good: receipt {receipt.sequence} of account {receipt.account}, signed by {receipt.key}\n"
        f"  run {receipt.run}, {receipt.outcome}: {receipt.model}, {receipt.mode}, price {receipt.price}"
    )
    for unit, quantity in receipt.quantities.items():
        print(f"  {quantity:>12} {unit:<12} {UNITS.get(unit, '')}")  # noqa: T201
    for line in receipt.lines:
        priced = f"{line.quantity} x {line.rate} pico-USD"
        print(f"  {line.unit:<12} {priced:<28} ${usd(line.amount):f}")  # noqa: T201
    print(f"  {'amount':<41} ${usd(receipt.amount):f}")  # noqa: T201


def _print_chain(chain: Summary) -> None:
    last = chain.last
    print(  # noqa: T201
        f"good: receipts {chain.first} to {last.sequence} of account {last.account}, none missing\n"
        f"  the last one's hash is {last.hash}"
    )
    for (model, mode), total in sorted(chain.totals.items()):
        print(f"  {model:<24} {mode:<11} {total.receipts:>8}  ${usd(total.amount):f}")  # noqa: T201
    print(f"  {'total':<36} {chain.total.receipts:>8}  ${usd(chain.total.amount):f}")  # noqa: T201
