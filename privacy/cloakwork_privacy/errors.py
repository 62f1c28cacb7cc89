"""The one error this package raises.

Every refusal names its cause and its remedy, and carries a code a program can branch on. No message ever
holds an input, a decrypted value or key material: messages are logged, and they cross the wire.
"""

from __future__ import annotations

__all__ = ["PrivacyError"]


class PrivacyError(Exception):
    """Something that must not pass: a malformed frame, a foreign key, a record that does not fit.

    Codes used by encryption:

    - Frames: `frame_invalid`, `wrong_program`, `wrong_keys`, `too_many_records`,
      `answer_invalid`, `answer_out_of_range`.
    - Keys and ciphertexts: `secret_key_refused`, `keys_for_another_program`,
      `evaluation_keys_invalid`, `ciphertext_invalid`,
      `key_file_unprotected`, `key_file_damaged`.
    - Programs: `insecure_parameters`, `program_invalid`.
    - Records: `wrong_shape`, `wrong_dtype`, `not_finite`, `out_of_range`.

    Attributes:
        code: A stable snake_case name of the cause.
        message: The cause and the remedy, in words.
    """

    def __init__(self, code: str, message: str) -> None:
        # Both arguments reach Exception.args, so that the error survives pickling between processes.
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message
