"""What leaves the server: the attacks that work on a bare result must fail on an answer."""

import numpy as np
import pytest
import tenseal.sealapi as seal

from cloakwork_privacy.ckks import answer, residues
from cloakwork_privacy.ckks.context import context
from cloakwork_privacy.ckks.encoder import decode as read_plain
from cloakwork_privacy.ckks.encoder import encode as write_plain
from cloakwork_privacy.ckks.frames import Kind, decode
from cloakwork_privacy.ckks.noise import binomial
from cloakwork_privacy.ckks.noop import NoopCipher
from cloakwork_privacy.ckks.octets import widen
from cloakwork_privacy.ckks.public import EvaluationKeys
from cloakwork_privacy.ckks.seal import SealCipher
from cloakwork_privacy.ckks.sealed import Sealed
from cloakwork_privacy.compiler.circuit import walk

RECORD = np.array([[1.5, 0.0, 7.0]])


class Run:
    """One program on one record: the request, the bare result, the clear result, and a fresh answer."""

    def __init__(self, program, keys, records):
        self.signature, self.keys = program.signature, keys
        self.ring = context(self.signature.parameters)
        self.public = EvaluationKeys.parse(self.signature, keys.evaluation_keys())
        frame = decode(keys.seal(records), Kind.REQUEST, most_parts=1, most_bytes=1 << 20)
        level, scale = self.signature.parameters.levels, self.signature.scale
        self.request = Sealed(self.ring, scale).unpack(frame.parts[0])
        packing, constants = self.signature.packing, program.circuit.constants
        clear = NoopCipher.of(self.signature, self.ring.primes)
        capacity = self.signature.parameters.capacity(packing)
        self.clear = walk(
            program.circuit,
            clear,
            {
                name: clear.encode(each.vector, each.scale, each.level, capacity)
                for name, each in constants.items()
            },
            clear.encode(self.signature.prepare(records)[0], scale, level, capacity),
        ).values
        encoded = {
            name: write_plain(self.ring, packing, each.vector, each.scale, each.level)
            for name, each in constants.items()
        }
        self.bare = lambda: walk(program.circuit, SealCipher(self.ring, self.public), encoded, self.request)

    def answer(self):
        return answer.write(self.ring, self.signature, self.public, self.bare())

    def decrypt(self, ciphertext):
        plain = seal.Plaintext()
        self.keys._decryptor.decrypt(ciphertext, plain)
        return read_plain(self.ring, self.signature.packing, plain)

    def second(self, ciphertext):
        """The second polynomial's values at SEAL's roots, as integers."""
        return residues.read(ciphertext)[1, 0].tolist()


@pytest.fixture
def unmasked(monkeypatch):
    """Masks with a zero that is no encryption."""

    def zero(ring, _):
        return residues.make(ring, np.zeros((2, 1, ring.parameters.poly_degree), np.uint64), 1.0)

    def start():
        monkeypatch.setattr(answer, "_mask", zero)
        monkeypatch.setattr(answer, "binomial", lambda count: np.zeros(count, np.int64))

    return start


@pytest.fixture
def linear_run(shallow, keys):
    return Run(shallow, keys, RECORD)


@pytest.fixture(scope="module")
def deep_run(deep, deep_keys):
    return Run(deep, deep_keys, np.random.default_rng(3).uniform(size=(1, 8, 8)) * 0.9)


def stolen_weights(run, ciphertext):
    """The theft: the result's second polynomial over the request's is the encoded weights."""
    prime = run.ring.primes[0]
    quotient = [
        out * pow(into, -1, prime) % prime
        for out, into in zip(run.second(ciphertext), run.second(run.request), strict=True)
    ]
    weights = residues.make(run.ring, np.array([[quotient]] * 2, np.uint64), 1.0)
    run.ring.evaluator.transform_from_ntt_inplace(weights)
    words = residues.read(weights)[0, 0].astype(np.int64)
    centred = np.where(words > prime // 2, words - prime, words) * (
        run.signature.scale / run.signature.answer_scale
    )
    return np.array([centred[0], *-centred[:-3:-1]])


@pytest.mark.parametrize("rounded", [True, False])
def test_one_answer_does_not_give_the_weights_away(linear_run, rounded, monkeypatch):
    if not rounded:
        monkeypatch.setattr(answer, "_dropped", lambda *_: 0)
    run, weights = linear_run, np.array([0.5, -1.5, 2.0])
    stolen = stolen_weights(run, answer.restore(run.ring, run.signature, run.answer()))
    assert np.abs(stolen - weights).max() > 1000.0


def test_the_theft_works_where_the_mask_is_missing(linear_run, unmasked, monkeypatch):
    monkeypatch.setattr(answer, "_dropped", lambda *_: 0)
    run, weights = linear_run, np.array([0.5, -1.5, 2.0])
    assert stolen_weights(run, run.bare()) == pytest.approx(weights, abs=1e-4)
    unmasked()
    shown = answer.restore(run.ring, run.signature, run.answer())
    assert stolen_weights(run, shown) == pytest.approx(weights, abs=1e-4)


def test_two_answers_to_one_request_have_nothing_in_common(linear_run, unmasked):
    run = linear_run
    first, second = (run.second(answer.restore(run.ring, run.signature, run.answer())) for _ in range(2))
    assert sum(left == right for left, right in zip(first, second, strict=True)) < 3
    unmasked()
    first, second = (run.answer() for _ in range(2))
    assert first[5:] == second[5:]  # only the flooded first coefficient tells them apart


def test_partial_sums_of_a_linear_model_stay(linear_run):
    """The bare result holds w_i x_j in its coefficients; the answer holds the logit and noise."""
    run = linear_run
    assert run.decrypt(run.bare()) == pytest.approx(run.clear, abs=1e-2)
    assert np.abs(run.clear[1:]).max() > 0.5
    shown = run.decrypt(answer.restore(run.ring, run.signature, run.answer()))
    assert shown[0] == pytest.approx(run.clear[0], abs=1e-3)
    # Spread over the whole modulus: 2^53 over a scale of about 2^45.
    assert np.median(np.abs(shown[1:])) > 100.0
    assert abs(np.corrcoef(shown[1:], run.clear[1:])[0, 1]) < 0.1


def test_partial_sums_of_a_convolution_stay(deep_run):
    """Slots a period apart differ before the cut; of the answer only their average is known."""
    run, period = deep_run, deep_run.signature.period
    logits = run.clear.reshape(-1, period).mean(axis=0)
    assert run.decrypt(run.bare()) == pytest.approx(run.clear, abs=1e-1)
    assert run.clear.reshape(-1, period).std(axis=0).max() > 1.0
    shown = run.decrypt(answer.restore(run.ring, run.signature, run.answer()))
    # What the circuit itself errs by is in both; the answer adds what it is said to add and no more.
    bare = run.decrypt(run.bare()).reshape(-1, period).mean(axis=0)
    added = 8 * answer.deviation(run.signature)
    assert shown.reshape(-1, period).mean(axis=0) == pytest.approx(bare, abs=added)
    assert bare == pytest.approx(logits, rel=1e-4, abs=5e-3)
    unused = np.delete(logits, list(run.signature.take))
    assert unused == pytest.approx(np.zeros(period - 10), abs=1e-9)
    assert np.median(np.abs(shown)) > 1000.0
    assert abs(np.corrcoef(shown, run.clear)[0, 1]) < 0.1


def test_an_answer_is_only_as_long_as_what_it_keeps(linear_run, deep_run):
    assert len(linear_run.answer()) == (1 + 2048) * 4
    parameters = deep_run.signature.parameters
    kept = 2 * deep_run.signature.period + parameters.poly_degree
    assert len(deep_run.answer()) == kept * (8 - answer._dropped(deep_run.signature, 1))
    assert answer._dropped(deep_run.signature, 1) >= 3


def test_the_flood_has_the_spread_it_is_said_to_have(linear_run, unmasked, monkeypatch):
    """Without mask and rounding, and with one ciphertext, nothing else moves the kept coefficient."""
    monkeypatch.setattr(answer, "_dropped", lambda *_: 0)
    unmasked()
    run, prime = linear_run, linear_run.ring.primes[0]
    kept = [int(widen(run.answer(), 0, 1, answer._width(run.ring))[0]) for _ in range(500)]
    moved = np.array([(value - kept[0] + prime // 2) % prime - prime // 2 for value in kept], np.float64)
    # Uniform in [-most, most). The estimate strays by 2 % of the deviation, once.
    most = 2.0 ** answer._flood_bits(run.signature, 1)
    assert 2.0**-16 < most / run.signature.answer_scale <= 2.0**-15
    assert moved.std() == pytest.approx(most / np.sqrt(3), rel=0.15)
    assert moved.max() - moved.min() < 2 * most


def test_a_mask_is_an_encryption_of_zero(deep_run):
    """What u, e0 and e1 add decrypts to noise of the size that two encryptions make, and no larger."""
    run, degree = deep_run, deep_run.signature.parameters.poly_degree
    mask = answer._mask(run.ring, run.public)
    run.ring.evaluator.transform_from_ntt_inplace(mask)
    noise = binomial(2 * degree).reshape(2, 1, degree)
    shown = residues.read(mask).view(np.int64) + noise
    fresh = residues.make(run.ring, (shown % run.ring.primes[0]).view(np.uint64), 1.0, ntt=False)
    run.ring.evaluator.transform_to_ntt_inplace(fresh)
    plain = seal.Plaintext()
    run.keys._decryptor.decrypt(fresh, plain)
    coefficients = read_plain(run.ring, "coefficients", plain)
    # e u + e0 + e1 s: variance 10.5 (2 * 2/3 N + 1)
    assert coefficients.std() == pytest.approx(np.sqrt(10.5 * (4 / 3 * degree + 1)), rel=0.1)
    assert np.abs(residues.read(mask).astype(np.float64) / run.ring.primes[0] - 0.5).mean() == pytest.approx(
        0.25, abs=0.01
    )


def test_answers_to_one_request_differ_by_the_predicted_deviation(linear_run, deep_run):
    """All that differs is mask, flood and rounding. A deviation of 400 numbers strays by 4 %."""
    for run, count in ((linear_run, 400), (deep_run, 40)):
        opened = [answer.restore(run.ring, run.signature, run.answer()) for _ in range(count)]
        logits = np.array([answer.pick(run.signature, run.decrypt(each)) for each in opened])
        assert logits.std(axis=0).mean() == pytest.approx(answer.deviation(run.signature), rel=0.2)
