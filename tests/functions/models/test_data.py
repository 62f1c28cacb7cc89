from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakwork_functions.models.data import Data


@pytest.fixture
def data():
    generator = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], [60, 120, 20])
    return Data.of(generator.normal(size=(200, 2, 2)), labels)


def test_arrays_of_any_number_become_float32_and_int64():
    data = Data.of(np.ones((3, 4), np.int16), np.array([0, 1, 0], np.uint8))
    assert (data.records.dtype, data.labels.dtype) == (np.float32, np.int64)


def test_cleaning_drops_what_is_not_finite_or_seen_before_and_counts_it(data):
    records = np.concatenate([data.records, data.records[[5, 9, 9]], np.zeros((3, 2, 2))])
    records[-3, 0, 0], records[-2, 1, 1] = np.nan, -np.inf
    clean, dropped = Data.of(records, np.concatenate([data.labels, np.zeros(6)])).clean()
    assert dropped == 5
    assert np.array_equal(clean.records[:-1], data.records)
    assert np.array_equal(clean.labels[:-1], data.labels)
    assert not clean.records[-1].any()


def test_clean_data_stay_as_they_are(data):
    clean, dropped = data.clean()
    assert dropped == 0
    assert np.array_equal(clean.records, data.records)


@given(st.integers(0, 2**31))
def test_a_split_keeps_every_record_once_and_the_classes_in_proportion(seed):
    data = Data.of(np.arange(200)[:, None], np.repeat([0, 1, 2], [60, 120, 20]))
    learn, held = data.split(seed)
    assert sorted([*learn.records[:, 0], *held.records[:, 0]]) == list(range(200))
    assert np.array_equal(np.bincount(held.labels), [15, 30, 5])
    assert np.array_equal(data.labels[held.records[:, 0].astype(int)], held.labels)


def test_a_split_follows_its_seed(data):
    one, again, other = data.split(1)[1], data.split(1)[1], data.split(2)[1]
    assert np.array_equal(one.records, again.records)
    assert not np.array_equal(one.records, other.records)
