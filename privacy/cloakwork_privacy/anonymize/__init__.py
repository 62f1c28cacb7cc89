"""Local differential privacy for records: what leaves the client is noised before it leaves.

A `Release` is the public half of a model's anonymized mode. It projects a record with a matrix learnt from
public data, and answers with one of a few public points near the projection, through randomised response.
The set of possible answers is finite and drawn with integers, so the stated ε is exact: no rounding of
floating-point noise can leak the record (Mironov, "On significance of the least significant bits for
differential privacy", CCS 2012).
"""

from __future__ import annotations

from cloakwork_privacy.anonymize.mechanism import RandomizedResponse
from cloakwork_privacy.anonymize.release import Release

__all__ = ["RandomizedResponse", "Release"]
