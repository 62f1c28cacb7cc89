"""Every way a call can fail, on either side of the wire.

    CloakworkError
    ├── ConfigError       no address, no key, or a broken profile file
    ├── TransportError    the service could not be reached, or the connection broke
    │   └── DeadlineError the whole call, retries included, ran out of time
    ├── InputError        the request cannot be run as it is; mend it and call again
    ├── AuthError         the API key is missing, wrong, revoked or expired, or may not do this
    ├── NotFoundError     no such model, version, mode or path
    ├── PrivacyError      keys, ciphertexts or releases that do not fit or are not safe
    ├── PaymentError      no price, too little credit, or a budget used up
    ├── ReceiptError      a receipt, or a chain of them, that does not prove what it should
    ├── BusyError         not now: try again after a while
    └── ServerError       our fault; nothing was charged

The gateway raises these, renders them as JSON (RFC 9457 members beside an OpenAI-style `error`
object) and the client rebuilds the same class from the `code`. No message holds an input, a key or
personal data.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = [
    "CODES",
    "AuthError",
    "BusyError",
    "CloakworkError",
    "ConfigError",
    "DeadlineError",
    "InputError",
    "NotFoundError",
    "PaymentError",
    "PrivacyError",
    "ReceiptError",
    "ServerError",
    "TransportError",
    "error",
    "foreign",
    "from_body",
    "to_body",
]


class CloakworkError(Exception):
    """The root. `code` is stable and meant for programs; the message is meant for people.

    Attributes:
        code: one of `CODES`.
        message: the cause and the remedy, in a sentence or two.
        param: the part of the request at fault, or None.
        request_id: the server's name for the call, or None when it never got there.
        retry_after: seconds to wait before another try, or None.
        headers: what else the answer says in its headers, such as where the key stands with its limits.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.request_id = request_id
        self.retry_after = retry_after
        self.headers = headers or {}

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return CODES[self.code].status if self.code in CODES else 500

    def __str__(self) -> str:
        where = f", request {self.request_id}" if self.request_id else ""
        return f"{self.message} [{self.code}{where}]"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.__dict__)


def _rebuild(kind: type[CloakworkError], details: dict[str, Any]) -> CloakworkError:
    return kind(**details)


class ConfigError(CloakworkError):
    """The client was not told where to call or with which key."""


class TransportError(CloakworkError):
    """The service could not be reached, or the connection broke before an answer."""


class DeadlineError(TransportError):
    """The call's total time ran out; it bounds every attempt together, not each."""


class InputError(CloakworkError):
    """The request cannot be run as it is."""


class AuthError(CloakworkError):
    """The API key is missing, wrong, revoked or expired, or may not do this."""


class NotFoundError(CloakworkError):
    """Nothing of that name is here."""


class PrivacyError(CloakworkError):
    """Key material, a ciphertext or a release that does not fit or is not safe to use."""


class PaymentError(CloakworkError):
    """The call is not paid for: no price, too little credit, or a budget that is used up."""


class ReceiptError(CloakworkError):
    """A receipt, a chain of them or the keys to check them by that do not prove what they should."""


class BusyError(CloakworkError):
    """The call may succeed a little later."""


class ServerError(CloakworkError):
    """The fault is the service's; nothing was charged."""


class Code(NamedTuple):
    """What a code stands for: its HTTP status, its class and its title."""

    status: int
    kind: type[CloakworkError]
    title: str


CODES: dict[str, Code] = {
    "no_address": Code(400, ConfigError, "No service address"),
    "bad_profile": Code(400, ConfigError, "Unreadable profile file"),
    "foreign_answer": Code(502, ConfigError, "Not a cloakwork service"),
    "epsilon_too_large": Code(400, PrivacyError, "More privacy asked for than you allow"),
    "other_schema": Code(503, ConfigError, "Database of another version"),
    "extra_missing": Code(400, ConfigError, "An optional package is not installed"),
    "bad_database": Code(503, ConfigError, "The database cannot be used"),
    "bad_secret": Code(503, ConfigError, "The service's secret cannot be used"),
    "connection_failed": Code(503, TransportError, "Connection failed"),
    "deadline_exceeded": Code(504, DeadlineError, "Out of time"),
    "bad_json": Code(400, InputError, "Body is not the JSON expected"),
    "bad_tensor": Code(400, InputError, "Body is not a tensor"),
    "bad_request": Code(400, InputError, "Malformed request"),
    "wrong_shape": Code(422, InputError, "Wrong shape"),
    "wrong_dtype": Code(422, InputError, "Wrong type of element"),
    "not_finite": Code(422, InputError, "NaN or infinity"),
    "out_of_range": Code(422, InputError, "Value out of range"),
    "too_many_records": Code(413, InputError, "Too many records in one call"),
    "body_too_large": Code(413, InputError, "Body too large"),
    "unsupported_media_type": Code(415, InputError, "Unsupported media type"),
    "idempotency_mismatch": Code(422, InputError, "Idempotency key used for another request"),
    "missing_key": Code(401, AuthError, "No API key"),
    "wrong_key": Code(401, AuthError, "Unknown API key"),
    "revoked_key": Code(401, AuthError, "Revoked API key"),
    "expired_key": Code(401, AuthError, "Expired API key"),
    "address_forbidden": Code(403, AuthError, "Address not on the API key's list"),
    "manage_forbidden": Code(403, AuthError, "API key that does not manage"),
    "mode_forbidden": Code(403, AuthError, "Mode not in the API key's scope"),
    "model_forbidden": Code(403, AuthError, "Model not in the API key's scope"),
    "run_forbidden": Code(403, AuthError, "API key that runs nothing"),
    "below_privacy_floor": Code(403, PrivacyError, "Less privacy than the API key demands"),
    "scope_exceeded": Code(403, AuthError, "More than the API key that makes it may do"),
    "scope_invalid": Code(422, InputError, "Scope that no API key can have"),
    "amount_invalid": Code(422, InputError, "Not an amount"),
    "name_taken": Code(409, InputError, "Name taken"),
    "reference_used": Code(409, InputError, "Reference used for another credit"),
    "key_ended": Code(409, InputError, "API key revoked or expired"),
    "key_rotated": Code(409, InputError, "API key rotated before"),
    "unknown_key": Code(404, NotFoundError, "No such API key"),
    "unknown_account": Code(404, NotFoundError, "No such account"),
    "unknown_project": Code(404, NotFoundError, "No such project"),
    "client_gone": Code(499, InputError, "The client hung up"),
    "unknown_path": Code(404, NotFoundError, "No such path"),
    "method_not_allowed": Code(405, NotFoundError, "Method not allowed"),
    "unknown_model": Code(404, NotFoundError, "No such model"),
    "mode_not_offered": Code(404, NotFoundError, "Mode not offered"),
    "frame_invalid": Code(400, PrivacyError, "Damaged or foreign frame"),
    "ciphertext_invalid": Code(422, PrivacyError, "Ciphertext cannot be used"),
    "wrong_program": Code(409, PrivacyError, "Frame made for another program"),
    "evaluation_keys_missing": Code(409, PrivacyError, "Evaluation keys not uploaded"),
    "evaluation_keys_too_large": Code(413, PrivacyError, "Evaluation keys too large"),
    "upload_range_invalid": Code(400, InputError, "Chunk not described rightly"),
    "upload_offset_mismatch": Code(409, InputError, "Chunk begins at another byte than is due"),
    "upload_total_mismatch": Code(409, InputError, "Upload begun with another total"),
    "evaluation_keys_invalid": Code(422, PrivacyError, "Evaluation keys cannot be used"),
    "keys_for_another_program": Code(409, PrivacyError, "Evaluation keys for another program"),
    "wrong_keys": Code(409, PrivacyError, "Sealed under other keys"),
    "secret_key_refused": Code(400, PrivacyError, "Secret key refused"),
    "insecure_parameters": Code(422, PrivacyError, "Parameters below 128-bit security"),
    "key_file_unprotected": Code(400, PrivacyError, "Key file readable by others"),
    "key_file_damaged": Code(400, PrivacyError, "Key file damaged"),
    "answer_invalid": Code(502, PrivacyError, "Answer cannot be opened"),
    "answer_out_of_range": Code(422, PrivacyError, "Record unlike those the model was calibrated on"),
    "program_invalid": Code(502, PrivacyError, "The service's program description is not usable"),
    "release_invalid": Code(502, PrivacyError, "The service's anonymizer is not usable"),
    "no_price": Code(503, PaymentError, "No price"),
    "bad_price": Code(400, InputError, "Not a price"),
    "books_differ": Code(500, ServerError, "The books contradict each other"),
    "insufficient_credit": Code(402, PaymentError, "Too little credit"),
    "budget_exceeded": Code(402, PaymentError, "Budget used up"),
    "rate_limited": Code(429, BusyError, "Too many calls in a short time"),
    "concurrency_limited": Code(429, BusyError, "Too many calls at once"),
    "hold_lost": Code(503, BusyError, "Hold released before the end"),
    "receipt_invalid": Code(422, ReceiptError, "Receipt proves nothing"),
    "receipt_key_unknown": Code(422, ReceiptError, "Receipt signed by an unknown key"),
    "receipt_keys_invalid": Code(422, ReceiptError, "Not a document of receipt keys"),
    "in_flight": Code(409, BusyError, "The same call is still running"),
    "overloaded": Code(503, BusyError, "Queue full"),
    "ledger_unavailable": Code(503, BusyError, "Ledger unavailable"),
    "worker_failed": Code(500, ServerError, "The model's process failed"),
    "model_unavailable": Code(503, ServerError, "The model cannot be loaded"),
    "internal": Code(500, ServerError, "Internal error"),
}


def error(code: str, message: str, **details: Any) -> CloakworkError:
    """Make the error that a code stands for; a code of a newer server becomes a plain ServerError."""
    kind = CODES[code].kind if code in CODES else ServerError
    return kind(code, message, **details)


def foreign() -> ConfigError:
    """Make the error for an answer that no cloakwork service gives."""
    return ConfigError("foreign_answer", "What answers there is no cloakwork service; is the address right?")


def to_body(failure: CloakworkError) -> dict[str, Any]:
    """Render an error as RFC 9457 problem details with an OpenAI-style `error` member."""
    title = CODES[failure.code].title if failure.code in CODES else "Error"
    return {
        "type": f"urn:cloakwork:error:{failure.code}",
        "title": title,
        "status": failure.status,
        "detail": failure.message,
        "instance": f"urn:cloakwork:request:{failure.request_id}",
        "error": {
            "message": failure.message,
            "type": type(failure).__name__,
            "param": failure.param,
            "code": failure.code,
        },
    }


def from_body(status: int, body: Any, *, request_id: str | None, retry_after: float | None) -> CloakworkError:
    """Rebuild the error a server rendered; anything else becomes one that names the status."""
    details = body.get("error") if isinstance(body, dict) else None
    if not isinstance(details, dict) or "code" not in details:
        message = f"The service answered with status {status} and no explanation; is the address right?"
        return ServerError("internal", message, request_id=request_id, retry_after=retry_after)
    return error(
        str(details["code"]),
        str(details.get("message", "")),
        param=details.get("param"),
        request_id=request_id,
        retry_after=retry_after,
    )
