"""The cipher on real ciphertexts, through SEAL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import tenseal.sealapi as seal

from cloakwork_privacy.ckks.cipher import same_scale

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloakwork_privacy.ckks.context import Context
    from cloakwork_privacy.ckks.public import EvaluationKeys

__all__ = ["SealCipher"]


class SealCipher:
    """SEAL's operations under one client's keys. Registers are its ciphertexts, plaintexts its plaintexts.

    SEAL itself refuses operands of different levels or scales (`ValueError`).
    """

    def __init__(self, context: Context, keys: EvaluationKeys) -> None:
        self._evaluator = context.evaluator
        self._keys = keys

    def multiply_plain(self, register: Any, plain: Any) -> Any:
        """Product with a plaintext; scales multiply."""
        result = seal.Ciphertext()
        self._evaluator.multiply_plain(register, plain, result)
        return result

    def add_plain(self, register: Any, plain: Any) -> Any:
        """Sum with a plaintext."""
        result = seal.Ciphertext()
        _aligned(self._evaluator.add_plain, register, plain, result)
        return result

    def matrix(self, register: Any, plain: Any) -> NoReturn:  # noqa: ARG002 - the protocol's arguments
        """Of bundles only."""
        raise ValueError("matrices multiply bundles")

    def add(self, left: Any, right: Any) -> Any:
        """Sum of two ciphertexts."""
        result = seal.Ciphertext()
        _aligned(self._evaluator.add, left, right, result)
        return result

    def multiply(self, left: Any, right: Any) -> Any:
        """Product of two ciphertexts, of three polynomials."""
        result = seal.Ciphertext()
        self._evaluator.multiply(left, right, result)
        return result

    def rotate(self, register: Any, step: int) -> Any:
        """Slots rotated to the left."""
        result = seal.Ciphertext()
        self._evaluator.rotate_vector(register, step, self._keys.galois, result)
        return result

    def square(self, register: Any) -> Any:
        """Square, of three polynomials."""
        result = seal.Ciphertext()
        self._evaluator.square(register, result)
        return result

    def relinearise(self, register: Any) -> Any:
        """Back to two polynomials."""
        result = seal.Ciphertext()
        self._evaluator.relinearize(register, self._keys.relinearisation, result)
        return result

    def rescale(self, register: Any) -> Any:
        """Divides by the last prime and drops it."""
        result = seal.Ciphertext()
        self._evaluator.rescale_to_next(register, result)
        return result

    def drop(self, register: Any) -> Any:
        """Drops the last prime."""
        result = seal.Ciphertext()
        self._evaluator.mod_switch_to_next(register, result)
        return result


def _aligned(add: Callable[[Any, Any, Any], None], left: Any, right: Any, result: Any) -> None:
    """Adds, lending the right operand the left one's scale: SEAL tolerates one unit in the last place."""
    scale = right.scale
    if scale == left.scale or not same_scale(left.scale, scale):
        add(left, right, result)
        return
    right.scale = left.scale
    try:
        add(left, right, result)
    finally:
        right.scale = scale
