from __future__ import annotations

import numpy as np
import pytest

from cloakwork_privacy.anonymize import RandomizedResponse, Release


@pytest.fixture
def release():
    """Twelve points in the plane for records of shape (2, 3), at ε = 2."""
    generator = np.random.default_rng(7)
    return Release(
        input_shape=(2, 3),
        center=generator.normal(size=6).astype("float32"),
        projection=generator.normal(size=(2, 6)).astype("float32"),
        codebook=generator.normal(size=(12, 2)).astype("float32"),
        response=RandomizedResponse.calibrate(2.0, size=12, near=3),
        epsilon=2.0,
    )
