"""Labelled records: cleaned, and parted into those to learn from and those held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save
from sklearn.model_selection import train_test_split

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Data"]

HELD_OUT = 0.25


@dataclass(frozen=True, eq=False)
class Data:
    """Records float32 (n, *shape), and the class of each, int64 (n,) from 0."""

    records: NDArray[np.float32]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, records: NDArray[Any], labels: NDArray[Any]) -> Data:
        """Take arrays of any numeric type."""
        return cls(records.astype(np.float32), labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, which: NDArray[Any]) -> Data:
        """Select by index or by mask."""
        return Data(self.records[which], self.labels[which])

    def clean(self) -> tuple[Data, int]:
        """Drop records with NaN or infinity, and all but the first of equal ones; say how many went.

        A record on both sides of a split would be measured on what was learnt by heart.
        """
        flat = self.records.reshape(len(self), -1)
        finite = np.flatnonzero(np.isfinite(flat).all(axis=1))
        _, first = np.unique(flat[finite], axis=0, return_index=True)
        kept = finite[np.sort(first)]
        return self.take(kept), len(self) - len(kept)

    def split(self, seed: int) -> tuple[Data, Data]:
        """Part into three quarters to learn from and one held out, each class in the same proportion."""
        learn, held = train_test_split(
            np.arange(len(self)), test_size=HELD_OUT, stratify=self.labels, random_state=seed
        )
        return self.take(learn), self.take(held)

    def save(self, path: Path) -> None:
        """Write `records` and `labels` as safetensors."""
        path.write_bytes(save({"records": np.ascontiguousarray(self.records), "labels": self.labels}))
