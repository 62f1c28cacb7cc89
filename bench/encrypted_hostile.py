"""Ten thousand hostile frames against the encrypted server: how many of them do harm.

Every frame that a client can send, REQUEST and EVALUATION_KEYS of both models of the catalogue and REQUEST of
their programs for many records too, is mutated (see `encrypted_mutations`) and handed to
`Evaluator.parse_keys` or `Evaluator.run`. Mutated keys that are accepted are then used, by a request that
names them.

It runs in a child process whose memory may grow by a fixed amount, each case for a limited time. Bad is:

- the child dies,
- a case takes longer than its limit,
- it needs more memory than its bound (the allocation fails),
- any exception other than `PrivacyError`,
- a silent wrong answer: an answer that the honest client's `SecretKeys.open` takes for the answer to its own
  request, and opens to something else than the server's answer to that request.

Not bad is an answer to a mutated and resealed request that says something else: it is the sender's own
garbage. It names the request it answers by hash, so the honest client refuses it, and that is checked.

What is done in a case follows from its number, and only the keys are new each time: `encrypted_hostile.py
NUMBER` runs one, without limits, and lets it fail.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from encrypted_models import Service
from encrypted_mutations import RECORDS, mutated, taken_apart
from gateway import held_out, published
from harness import alone, one_thread, write
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cloakwork_privacy.ckks.frames import Kind, encode
from cloakwork_privacy.compiler.program import Program
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

CASES = 10_000
SEED = 0
BAD = "BAD: "
PURPOSES = ("latency", "throughput")
MOST_SECONDS = 20.0  # wall; the slowest honest call takes a fifth of it, and all but one kind a hundredth
MOST_GROWTH = 256 << 20

# How many of a hundred cases each frame gets: the digits' take longest, seconds where they are a bundle.
SHARES = {
    ("tumor-risk", "latency", Kind.REQUEST): 34,
    ("tumor-risk", "latency", Kind.EVALUATION_KEYS): 20,
    ("tumor-risk", "throughput", Kind.REQUEST): 20,
    ("digits", "latency", Kind.REQUEST): 13,
    ("digits", "latency", Kind.EVALUATION_KEYS): 12,
    ("digits", "throughput", Kind.REQUEST): 1,
}


def main() -> None:
    targets = [Target.of(name, purpose) for name in ("tumor-risk", "digits") for purpose in PURPOSES]
    one_thread()
    if len(sys.argv) > 1:
        Console().print(case(targets, int(sys.argv[1])))
        return
    outcomes = Watch(targets).run()
    show(outcomes)
    bad = sum(count for (_, outcome), count in outcomes.items() if outcome.startswith(BAD))
    answered = sum(count for (_, outcome), count in outcomes.items() if outcome.startswith("answered"))
    note = f"of {CASES:,} frames: {answered:,} accepted, and answered to their senders; the rest refused"
    write("encrypted_hostile", [alone([float(bad)], "encrypted.mutations_bad", "cases", note)])


@dataclass(frozen=True, eq=False)
class Target:
    """One program with an honest client: what it sends, and what it gets."""

    name: str
    purpose: str
    service: Service
    frames: dict[Kind, bytes]
    honest: NDArray[np.float64]

    @classmethod
    def of(cls, name: str, purpose: str) -> Target:
        program = Program.load(published(name) / "encrypted" / purpose)
        service, records = Service.of(program), held_out(name)[:RECORDS]
        request = service.keys.seal(records)
        honest = service.keys.open(service.run(request), request)
        sent = {Kind.REQUEST: request, Kind.EVALUATION_KEYS: service.keys.evaluation_keys()}
        return cls(name, purpose, service, sent, honest)

    def attack(self, kind: Kind, frame: bytes) -> str:
        """What comes of a frame."""
        try:
            return self._requested(frame) if kind is Kind.REQUEST else self._keyed(frame)
        except PrivacyError as refusal:
            return f"refused: {refusal.code}"

    def _requested(self, frame: bytes) -> str:
        return self._judged(self.service.run(frame))

    def _keyed(self, frame: bytes) -> str:
        """Accepted keys are used: by the honest records, as if sealed under them."""
        public = self.service.server.parse_keys(frame)
        request = taken_apart(self.frames[Kind.REQUEST])
        named = replace(request, keys=bytes.fromhex(public.fingerprint), parts=request.parts[:1], records=1)
        return self._judged(self.service.server.run(encode(named), public))

    def _judged(self, answer: bytes) -> str:
        """Whether the honest client would take this for the answer to its own request."""
        try:
            opened = self.service.keys.open(answer, self.frames[Kind.REQUEST])
        except PrivacyError:
            return "answered: not for the honest client"
        same = opened.shape == self.honest.shape and np.allclose(opened, self.honest, atol=1e-2)
        return "answered: as the honest request" if same else f"{BAD}silent wrong answer"


def case(targets: list[Target], number: int) -> str:
    """Make and try one case."""
    random = np.random.default_rng((SEED, number))
    target, kind = chosen(targets, number)
    others = [frame for each in targets for frame in each.frames.values()]
    honest = frame = target.frames[kind]
    while frame == honest:  # to reorder one part, say, changes nothing
        frame = mutated(honest, others, random)
    return target.attack(kind, frame)


def chosen(targets: list[Target], number: int) -> tuple[Target, Kind]:
    """Which frame a case starts from."""
    place = number * 37 % 100  # 37 and 100 have no common factor: each hundred cases holds every share
    for (name, purpose, kind), share in SHARES.items():
        if place < share:
            return next(each for each in targets if (each.name, each.purpose) == (name, purpose)), kind
        place -= share
    raise AssertionError("the shares sum to 100")


class Watch:
    """Runs the cases in a child, and goes on after whatever becomes of it."""

    def __init__(self, targets: list[Target]) -> None:
        self._targets = targets
        self._fork = multiprocessing.get_context("fork")

    def run(self) -> Counter[tuple[str, str]]:
        """Count outcomes by frame and by what happened."""
        outcomes: Counter[tuple[str, str]] = Counter()
        number = 0
        with Progress() as progress:
            task = progress.add_task("hostile frames", total=CASES)
            while number < CASES:
                for outcome in self._outcomes(number):
                    target, kind = chosen(self._targets, number)
                    outcomes[f"{target.name} {target.purpose} {kind.name}", outcome] += 1
                    if outcome.startswith(BAD):
                        progress.console.print(f"case {number}: {outcome}")
                    number += 1
                    progress.advance(task)
        return outcomes

    def _outcomes(self, first: int) -> Iterator[str]:
        """What becomes of the cases from the first one, until the last or until one ends the child."""
        ours, theirs = self._fork.Pipe()
        child = self._fork.Process(target=work, args=(self._targets, first, theirs), daemon=True)
        child.start()
        theirs.close()
        for _ in range(first, CASES):
            if not ours.poll(MOST_SECONDS):
                yield f"{BAD}took longer than {MOST_SECONDS:g} s"
                break
            try:
                yield ours.recv()
            except EOFError:
                child.join()
                yield f"{BAD}died, exit code {child.exitcode}"
                break
        child.kill()
        child.join()


def work(targets: list[Target], first: int, results: Connection) -> None:
    """The child: run the cases from the first one within bounds."""
    for target in targets:  # once, so that what honest frames need is there before the bound is set
        for kind, frame in target.frames.items():
            target.attack(kind, frame)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + MOST_GROWTH
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    for number in range(first, CASES):
        try:
            outcome = case(targets, number)
        except MemoryError:
            outcome = f"{BAD}memory"
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is counted
            outcome = f"{BAD}{type(failure).__name__}"
        results.send(outcome)


def show(outcomes: Counter[tuple[str, str]]) -> None:
    """Print what happened, most frequent first: how deep the cases went."""
    table = Table("frame", "outcome", "cases")
    for (frame, outcome), count in sorted(outcomes.items(), key=lambda item: (item[0][0], -item[1])):
        table.add_row(frame, outcome, str(count))
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
