"""Ten thousand hostile frames against the encrypted server: how many of them do harm.

Every frame that a client can send, REQUEST and EVALUATION_KEYS of both programs of the catalogue, is mutated
and handed to `Evaluator.parse_keys` or `Evaluator.run`. Half of the mutations damage bytes: flipped bits,
extreme values, cuts, additions, splices with other frames, lies about lengths, counts and digests; mostly the
checksum is mended afterwards, so that the code behind it is reached. Half take the frame apart, and repeat,
reorder, drop, exchange, resize or overwrite parts, and put a consistent frame together again. Now and then
up to four are done one after the other. Mutated keys that are accepted are then used, by a request that names
them.

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

import hashlib
import multiprocessing
import resource
import struct
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from encrypted_models import Service
from gateway import held_out, program
from harness import alone, one_thread, write
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cloakwork_privacy.ckks.frames import Frame, Kind, decode, encode
from cloakwork_privacy.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from numpy.random import Generator
    from numpy.typing import NDArray

CASES = 10_000
SEED = 0
BAD = "BAD: "
RECORDS = 2
MOST_SECONDS = 20.0  # wall; the slowest honest call takes a hundredth of it
MOST_GROWTH = 256 << 20
MOST_STACKED = 4
MENDED = 0.8
CHECKSUM = 32
MOST_PARTS = 0xFFFF
LABEL = struct.Struct("<4sBBHI32s32s")  # as `ckks.frames` has it
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF)
SIZES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PRETENDED = 1 << 20
MOST_BYTES = 12 << 20  # of a frame whose parts are repeated

# How many of a hundred cases each frame gets: the digits' take longest.
SHARES = {
    ("tumor-risk", Kind.REQUEST): 45,
    ("tumor-risk", Kind.EVALUATION_KEYS): 25,
    ("digits", Kind.REQUEST): 15,
    ("digits", Kind.EVALUATION_KEYS): 15,
}


def main() -> None:
    targets = [Target.of(name) for name in ("tumor-risk", "digits")]
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
    service: Service
    frames: dict[Kind, bytes]
    honest: NDArray[np.float64]

    @classmethod
    def of(cls, name: str) -> Target:
        service, records = Service.of(program(name)), held_out(name)[:RECORDS]
        request = service.keys.seal(records)
        honest = service.keys.open(service.run(request), request)
        sent = {Kind.REQUEST: request, Kind.EVALUATION_KEYS: service.keys.evaluation_keys()}
        return cls(name, service, sent, honest)

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
    for (name, kind), share in SHARES.items():
        if place < share:
            return next(target for target in targets if target.name == name), kind
        place -= share
    raise AssertionError("the shares sum to 100")


def mutated(frame: bytes, others: list[bytes], random: Generator) -> bytes:
    """Mutate a frame: its parts or its bytes, mostly once, now and then a few times over."""
    times = min(int(random.geometric(0.6)), MOST_STACKED)
    if random.random() < 0.5:
        apart = taken_apart(frame)
        for _ in range(times):
            apart = PARTS[random.integers(len(PARTS))](apart, others, random)
        if apart.kind is Kind.REQUEST and random.random() < MENDED:
            apart = replace(apart, records=len(apart.parts))
        return encode(apart)
    data = bytearray(frame)
    for _ in range(times):
        data = BYTES[random.integers(len(BYTES))](data, others, random)
    if random.random() < MENDED and len(data) > CHECKSUM:
        data[-CHECKSUM:] = hashlib.sha256(data[:-CHECKSUM]).digest()
    return bytes(data)


def taken_apart(frame: bytes) -> Frame:
    """Read one of our own frames."""
    return decode(frame, Kind(frame[5]), most_parts=MOST_PARTS, most_bytes=1 << 30)


def _place(data: bytearray | bytes, random: Generator) -> tuple[int, int]:
    """Choose where a run of bytes begins and ends: mostly short, now and then most of the data."""
    start = int(random.integers(len(data)))
    longest = int(2 ** random.uniform(0, np.log2(len(data) - start + 1)))
    return start, start + max(1, longest)


def flipped(data: bytearray, _: list[bytes], random: Generator) -> bytearray:
    for place in random.integers(len(data), size=random.integers(1, 33)):
        data[place] ^= 1 << int(random.integers(8))
    return data


def overwritten(data: bytearray, _: list[bytes], random: Generator) -> bytearray:
    start, end = _place(data, random)
    data[start:end] = bytes([int(random.choice(EXTREMES))]) * (end - start)
    return data


def randomised(data: bytearray, _: list[bytes], random: Generator) -> bytearray:
    start, end = _place(data, random)
    data[start:end] = random.bytes(end - start)
    return data


def cut(data: bytearray, _: list[bytes], random: Generator) -> bytearray:
    return data[: random.integers(1, len(data) + 1)]


def removed(data: bytearray, _: list[bytes], random: Generator) -> bytearray:
    start, end = _place(data, random)
    return data[:start] + data[end:] or data


def extended(data: bytearray, others: list[bytes], random: Generator) -> bytearray:
    other = others[random.integers(len(others))]
    start, end = _place(other, random)
    return data + (other[start:end] if random.random() < 0.5 else bytes(int(random.integers(1, PRETENDED))))


def inserted(data: bytearray, _: list[bytes], random: Generator) -> bytearray:
    start, end = _place(data, random)
    return data[:start] + random.bytes(min(end - start, 4096)) + data[start:]


def spliced(data: bytearray, others: list[bytes], random: Generator) -> bytearray:
    other = others[random.integers(len(others))]
    start, end = _place(other, random)
    place = start if random.random() < 0.5 else int(random.integers(len(data)))
    data[place : place + end - start] = other[start:end]
    return data


def lied_about_length(data: bytearray, _: list[bytes], random: Generator) -> bytearray:
    """Change one entry of the table of sizes."""
    place = LABEL.size + 4 * int(random.integers(4))
    if len(data) >= place + 4:
        (size,) = struct.unpack_from("<I", data, place)
        lies = (*SIZES, size + 1, size - 1, 2 * size, size // 2, int(random.integers(1 << 32)))
        struct.pack_into("<I", data, place, lies[random.integers(len(lies))] & 0xFFFFFFFF)
    return data


def lied_in_label(data: bytearray, others: list[bytes], random: Generator) -> bytearray:
    """Change magic, version, kind, count, records, program or keys."""
    if len(data) < LABEL.size:
        return data
    fields = list(LABEL.unpack_from(data))
    stranger = LABEL.unpack_from(others[random.integers(len(others))])
    lies: tuple[Any, ...] = (
        random.bytes(4),
        int(random.integers(256)),
        int(random.integers(6)),
        int(random.choice((0, 1, 2, 3, 4, 64, 65, 0xFFFF))),
        int(random.choice((0, 1, RECORDS + 1, 64, 65, 4096, *SIZES))),
        stranger[5],
        random.bytes(32),
    )
    which = int(random.integers(len(fields)))
    fields[which] = lies[which]
    LABEL.pack_into(data, 0, *fields)
    return data


BYTES: tuple[Callable[[bytearray, list[bytes], Generator], bytearray], ...] = (
    flipped,
    overwritten,
    randomised,
    cut,
    removed,
    extended,
    inserted,
    spliced,
    lied_about_length,
    lied_in_label,
)


def repeated(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    times = int(random.choice((2, 3, 40)))
    most = MOST_BYTES // max(1, *map(len, frame.parts), 1)
    return replace(frame, parts=(frame.parts * times)[:most])


def reordered(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    return replace(frame, parts=tuple(frame.parts[place] for place in random.permutation(len(frame.parts))))


def dropped(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    keep = random.random(len(frame.parts)) < 0.5
    return replace(frame, parts=tuple(part for part, kept in zip(frame.parts, keep, strict=True) if kept))


def padded(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    """Add empty parts, a few or as many as the count can say."""
    added = (b"",) * int(random.choice((1, 2, 1000, 0xFFFF)))
    return replace(frame, parts=(*frame.parts, *added)[:0xFFFF])


def exchanged(frame: Frame, others: list[bytes], random: Generator) -> Frame:
    """Put a part of another frame, or another kind of thing, in the place of one."""
    other = taken_apart(others[random.integers(len(others))]).parts
    return _changed(frame, random, lambda _: other[random.integers(len(other))])


def resized(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    def change(part: bytes) -> bytes:
        size = int(random.choice((0, 1, len(part) // 2, len(part) - 1, len(part) + 1, 2 * len(part))))
        return (part + part + b"\0")[:size]

    return _changed(frame, random, change)


def filled(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    """Every residue, and the seed, at an extreme."""
    return _changed(frame, random, lambda part: bytes([int(random.choice(EXTREMES))]) * len(part))


def reseeded(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    """A new seed for the half that is expanded from it, at either end of the part."""

    def change(part: bytes) -> bytes:
        seed = random.bytes(64)
        return part[:-64] + seed if random.random() < 0.5 else seed + part[64:]

    return _changed(frame, random, change)


def damaged(frame: Frame, others: list[bytes], random: Generator) -> Frame:
    """Damage the bytes of one part, of unchanged size."""
    damage = (flipped, overwritten, randomised)[random.integers(3)]
    return _changed(frame, random, lambda part: bytes(damage(bytearray(part), others, random)))


def shifted(frame: Frame, _: list[bytes], random: Generator) -> Frame:
    """Every byte of a part moved along."""

    def change(part: bytes) -> bytes:
        place = int(random.integers(len(part)))
        return part[place:] + part[:place]

    return _changed(frame, random, change)


def relabelled(frame: Frame, others: list[bytes], random: Generator) -> Frame:
    """Another kind, program or client."""
    other = taken_apart(others[random.integers(len(others))])
    lies: tuple[dict[str, Any], ...] = (
        {"kind": Kind(int(random.integers(1, 5)))},
        {"records": int(random.choice((0, 1, RECORDS + 1, 65, *SIZES)))},
        {"program": other.program},
        {"keys": other.keys},
        {"keys": random.bytes(32)},
    )
    return replace(frame, **lies[random.integers(len(lies))])


PARTS: tuple[Callable[[Frame, list[bytes], Generator], Frame], ...] = (
    repeated,
    reordered,
    dropped,
    padded,
    exchanged,
    resized,
    filled,
    reseeded,
    damaged,
    damaged,
    shifted,
    relabelled,
)


def _changed(frame: Frame, random: Generator, change: Callable[[bytes], bytes]) -> Frame:
    """Change one part that holds something; a frame without any stays."""
    full = [place for place, part in enumerate(frame.parts) if part]
    if not full:
        return frame
    parts = list(frame.parts)
    place = int(random.choice(full))
    parts[place] = change(parts[place])
    return replace(frame, parts=tuple(parts))


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
                    outcomes[f"{target.name} {kind.name}", outcome] += 1
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
