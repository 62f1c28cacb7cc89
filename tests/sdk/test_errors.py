import pickle

import pytest

from cloakwork import errors
from cloakwork.errors import CODES, CloakworkError, error, from_body, to_body


@pytest.mark.parametrize("code", CODES)
def test_every_code_survives_the_wire_and_pickling(code):
    sent = error(code, "cause and remedy", param="input", request_id="req_1")
    back = from_body(sent.status, to_body(sent), request_id="req_1", retry_after=2.0)
    assert type(back) is type(sent) is CODES[code].kind
    assert (back.code, back.message, back.param, back.request_id) == (
        code,
        "cause and remedy",
        "input",
        "req_1",
    )
    again = pickle.loads(pickle.dumps(back))
    assert vars(again) == vars(back)
    assert type(again) is type(back)


def test_bodies_are_rfc_9457_with_an_error_object_inside():
    body = to_body(error("wrong_shape", "no", param="input", request_id="req_1"))
    assert {"type", "title", "status", "detail", "instance"} <= body.keys()
    assert body["status"] == 422
    assert body["error"] == {"message": "no", "type": "InputError", "param": "input", "code": "wrong_shape"}


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = {word for word in errors.__doc__.split() if word.endswith("Error")}
    kinds = (CloakworkError, *_below(CloakworkError))
    real = {kind.__name__ for kind in kinds if kind.__module__ == errors.__name__}
    assert drawn == real


def test_a_code_of_a_newer_server_is_still_an_error():
    unknown = from_body(
        418, {"error": {"code": "teapot", "message": "short"}}, request_id=None, retry_after=None
    )
    assert isinstance(unknown, errors.ServerError)
    assert unknown.code == "teapot"


def test_an_answer_that_is_not_ours_names_its_status():
    assert "502" in from_body(502, "<html>", request_id=None, retry_after=None).message


def _below(kind):
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)
