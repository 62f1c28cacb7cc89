"""Runs written straight into the books, as the ledger writes them: of any day, many at once."""

import itertools
import json

from cloakwork_functions.ledger.statement import Statement

NAMES = map("{:06}".format, itertools.count())
CHARGED = {"answered", "abandoned"}

RUNS = Statement(
    "INSERT INTO runs SELECT id, account, project, key, model, 'd', mode, price, at, NULL, NULL FROM {batch}",
    "id text, account text, project text, key text, model text, mode text, price bigint, at bigint",
)
ENDS = Statement(
    "INSERT INTO ends SELECT run, outcome, amount, quantities, at FROM {batch}",
    "run text, outcome text, amount bigint, quantities text, at bigint",
)
ENTRIES = Statement(
    "INSERT INTO entries SELECT id, kind, debit, credit, amount, at FROM {batch}",
    "id text, kind text, debit text, credit text, amount bigint, at bigint",
)
PAY = Statement(
    "UPDATE accounts SET available = available - batch.amount FROM {batch} WHERE accounts.id = batch.id",
    "id text, amount bigint",
)
RUN = {
    "at": 0,
    "project": "p",
    "key": "cw_a",
    "model": "m@1",
    "mode": "plaintext",
    "price": 1,
    "outcome": "answered",  # None while it has not ended
    "quantities": {"call": 1, "record": 1},
    "amount": 8,  # nano-USD, if it is charged
}


def insert(account, runs):
    """Write runs, each what differs from RUN; give their names."""
    runs = {f"{next(NAMES)}_{account}": RUN | run for run in runs}
    columns = ("project", "key", "model", "mode", "price", "at")
    yield RUNS((name, account, *(run[column] for column in columns)) for name, run in runs.items())
    ended = {name: run for name, run in runs.items() if run["outcome"] is not None}
    ends, entries = [], []
    for name, run in ended.items():
        charged = run["outcome"] in CHARGED
        amount = run["amount"] if charged else 0
        used = json.dumps(run["quantities"] if charged else {})
        ends.append((name, run["outcome"], amount, used, run["at"] + 1))
        # Of an odd amount a nano-USD is from rounding, and five were held too many.
        entries += [
            (name, "hold", f"available:{account}", f"held:{account}", amount + 5, run["at"]),
            (name, "settle", f"held:{account}", "revenue", amount - amount % 2, run["at"] + 1),
            (name, "rounding", f"held:{account}", "rounding", amount % 2, run["at"] + 1),
            (name, "release", f"held:{account}", f"available:{account}", 5, run["at"] + 1),
        ]
    yield PAY([(account, sum(end[2] for end in ends))])
    yield ENDS(ends)
    yield ENTRIES(entries)
    return list(runs)
