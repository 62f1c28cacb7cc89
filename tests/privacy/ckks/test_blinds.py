"""What masks are made of is ternary, and nobody gets what another got."""

import multiprocessing
import threading

import numpy as np
import pytest

from cloakwork_privacy.ckks import blinds, memory, residues
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.parameters import Parameters

RING = context(Parameters(4096, (30, 25, 35)))


def words(blind):
    return residues.read_plain(blind, (1, 4096))


def coefficients(drawn):
    """Those of at most 16 blinds, between -1 and the prime."""
    several = residues.make(RING, np.stack([words(blind) for blind in drawn]), 1.0)
    RING.evaluator.transform_from_ntt_inplace(several)
    found = residues.read(several)[:, 0].astype(np.int64)
    found[found == RING.primes[0] - 1] = -1
    return found


@pytest.mark.parametrize("direct", [True, False])
def test_blinds_are_ternary(direct, monkeypatch):
    allowed = memory.direct() and direct
    monkeypatch.setattr(memory, "direct", lambda: allowed)
    monkeypatch.setattr(blinds, "_stock", {})
    drawn = [blinds.draw(RING) for _ in range(64)]
    assert all((blind.scale, blind.parms_id()) == (1.0, RING.parms_id(1)) for blind in drawn)
    found = np.concatenate([coefficients(drawn[at : at + 16]) for at in range(0, 64, 16)])
    values, counts = np.unique(found, return_counts=True)
    assert values.tolist() == [-1, 0, 1]
    # Each a third of 262 144, give or take 0.28 %: one run in a billion is off by seven times that.
    assert counts / found.size == pytest.approx(np.full(3, 1 / 3), rel=0.02)


def test_no_blind_is_drawn_twice():
    drawn = {words(blinds.draw(RING)).tobytes() for _ in range(100)}
    assert len(drawn) == 100


def test_threads_share_no_blind():
    drawn = []

    def draw():
        drawn.extend([words(blinds.draw(RING)).tobytes() for _ in range(100)])

    threads = [threading.Thread(target=draw) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == len(drawn) == 800


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_inherits_no_blind():
    blinds.draw(RING)
    assert blinds._stock[RING]
    near, far = multiprocessing.Pipe()
    children = [
        multiprocessing.get_context("fork").Process(target=_forked, args=(far,), daemon=True)
        for _ in range(2)
    ]
    for child in children:
        child.start()
    drawn = [row for _ in children for row in near.recv()]
    for child in children:
        child.join()
    drawn += [words(blinds.draw(RING)).tobytes() for _ in range(20)]
    assert len(set(drawn)) == len(drawn) == 60


def _forked(pipe):
    pipe.send([words(blinds.draw(RING)).tobytes() for _ in range(20)])
