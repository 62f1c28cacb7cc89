from __future__ import annotations

import numpy as np
import pytest

from cloakwork.wire import Mode
from cloakwork_functions.models.anonymize import Anonymizer, expected_accuracy, fit_reader, learn_release
from cloakwork_functions.models.data import Data
from cloakwork_privacy.anonymize import Release


@pytest.fixture
def data():
    """Three clusters in five dimensions, the last of which is constant."""
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 60)
    records = generator.normal(size=(180, 5)) + 6 * np.eye(5)[labels]
    records[:, 4] = 1
    return Data.of(records, labels)


def test_the_release_projects_to_one_direction_less_than_there_are_classes(data):
    release = learn_release(data, Anonymizer(epsilon=3.0, per_class=4, near=2), seed=0)
    assert release.wire_shape == (2,)
    assert release.codebook.shape == (12, 2)
    assert release.epsilon == 3.0
    assert learn_release(data, Anonymizer(3.0, 4, 2), seed=0).to_json() == release.to_json()


@pytest.mark.parametrize("epsilon", [1.0, 3.0])
def test_on_separate_classes_the_reader_attains_what_the_noise_leaves(data, epsilon):
    release = learn_release(data, Anonymizer(epsilon, per_class=1, near=1), seed=0)
    reader = fit_reader(release, data, seed=0)
    # k-ary randomised response: the truth with probability e^ε / (e^ε + 2), and no classifier does better.
    best = np.exp(epsilon) / (np.exp(epsilon) + 2)
    assert expected_accuracy(release, reader, data) == pytest.approx(best, abs=0.005)


def test_the_cards_accuracy_is_what_real_draws_give(made):
    held, offer = made.held, made.card.modes[Mode.ANONYMIZED]
    release = Release.from_json((made.folder / offer.artifact).read_bytes())
    draws = 40
    records, labels = (
        np.tile(held.records, (draws,) + (1,) * (held.records.ndim - 1)),
        np.tile(held.labels, draws),
    )
    said = made.run(Mode.ANONYMIZED, release.release(records)).argmax(axis=1)
    error = np.sqrt(offer.accuracy * (1 - offer.accuracy) / len(labels))
    assert (said == labels).mean() == pytest.approx(offer.accuracy, abs=6 * error)


def test_the_release_is_the_one_the_card_states(made):
    offer = made.card.modes[Mode.ANONYMIZED]
    release = Release.from_json((made.folder / offer.artifact).read_bytes())
    assert (release.epsilon, release.wire_shape) == (offer.epsilon, offer.wire)
    assert release.input_shape == made.card.input.shape


def test_anonymized_accuracy_is_worth_offering_and_below_the_ceiling(made):
    offer, classes = made.card.modes[Mode.ANONYMIZED], len(made.card.output.names)
    floor = {"tumor-risk": 0.85, "digits": 0.75}[made.card.name]
    assert offer.epsilon == 4.0
    assert floor <= offer.accuracy <= np.exp(4) / (np.exp(4) + classes - 1)
