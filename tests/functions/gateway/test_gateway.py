import re
import subprocess
from types import SimpleNamespace

import httpx
import pytest
from conftest import cli, serving
from openapi_spec_validator import validate

from cloakwork.errors import PrivacyError
from cloakwork.wire import Header, Media, ModelInfo, ModelList, Path, load


def get(server, path, **request):
    return httpx.get(server.address + path, headers=server.headers, **request)


def test_models_and_cards(server):
    listed = load(ModelList, get(server, Path.MODELS).json())
    assert [info.model for info in listed.models] == ["digits", "tumor-risk"]
    card = load(ModelInfo, get(server, "/v1/models/digits@prod").json()).card
    assert card.input.shape == (8, 8)
    assert set(card.modes) == {"plaintext", "anonymized", "encrypted"}
    assert all(offer.price_nano_usd > 0 and 0 < offer.accuracy <= 1 for offer in card.modes.values())
    assert card.limits


def test_json_in_json_out_with_the_facts_in_the_body(server):
    answer = server.run(json={"input": [1.0] * 30}).json()
    assert answer.keys() == {"output", "model", "mode", "request_id"}
    assert (answer["model"], answer["mode"]) == ("tumor-risk@1", "plaintext")


def test_every_answer_names_its_request(server):
    answers = [get(server, Path.HEALTH), get(server, "/nothing"), server.run(json={"input": [1.0] * 30})]
    names = [answer.headers[Header.REQUEST_ID] for answer in answers]
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"req_[0-9a-f]{32}", name) for name in names)


def test_health_and_readiness(server, tmp_path):
    assert httpx.get(server.address + Path.HEALTH).json() == {"status": "alive"}
    assert httpx.get(server.address + Path.READY).json() == {"status": "ready", "models": 2}


def test_a_gateway_without_models_is_alive_but_not_ready(tmp_path):
    from cloakwork_functions.home import Home

    with serving(Home(tmp_path / "empty"), tmp_path / "log") as empty:
        assert httpx.get(empty.address + Path.HEALTH).status_code == 200
        assert httpx.get(empty.address + Path.READY).status_code == 503


def test_the_description_is_valid_openapi_and_names_every_route(server):
    from cloakwork_functions.gateway.routes import routes

    nothing = SimpleNamespace(keys=None, store=None)
    document = httpx.get(server.address + Path.OPENAPI).json()
    validate(document)
    served = {(route.path, method.lower()) for route in routes(nothing) for method in route.endpoint.methods}
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert described == served


@pytest.mark.parametrize("path", [Path.MODELS, "/v1/models/digits", "/v1/models/digits/modes/encrypted"])
def test_everything_under_v1_wants_a_key(server, path):
    assert httpx.get(server.address + path).json()["error"]["code"] == "missing_key"


def test_a_method_that_a_path_does_not_have(server):
    answer = httpx.delete(server.address + Path.MODELS, headers=server.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


def test_the_public_half_of_a_mode_is_the_artifacts_file(server, trained):
    for asked, name in (
        ("encrypted?program=latency", "encrypted/latency/signature.json"),
        ("encrypted?program=throughput", "encrypted/throughput/signature.json"),
        ("anonymized", "anonymized/release.json"),
    ):
        answer = get(server, f"/v1/models/digits/modes/{asked}")
        assert answer.content == (trained("digits")[1] / name).read_bytes()
        assert answer.headers["content-type"] == Media.JSON
    assert get(server, "/v1/models/digits/modes/plaintext").status_code == 404
    unnamed = get(server, "/v1/models/digits/modes/encrypted")
    assert unnamed.status_code == 404
    assert "?program=latency|throughput" in unnamed.json()["error"]["message"]


def test_the_log_names_routes_and_codes_and_nothing_else(fresh_home, tmp_path):
    with serving(fresh_home, tmp_path / "gateway.log") as server:
        server.run(json={"input": [4.25] * 29})
        server.run("tumor-risk@secret-name", json={"input": [4.25] * 30})
    lines = [
        line for line in (tmp_path / "gateway.log").read_text().splitlines() if "cloakwork.access" in line
    ]
    line = r".* cloakwork\.access req_\w+ POST /v1/models/\{model\}/run %d \d+\.\d+ms %s"
    assert re.fullmatch(line.replace("%d", "422").replace("%s", "wrong_shape"), lines[0])
    assert re.fullmatch(line.replace("%d", "404").replace("%s", "unknown_model"), lines[1])
    assert "4.25" not in "".join(lines)
    assert server.key[12:] not in (tmp_path / "gateway.log").read_text()


def test_an_unforeseen_failure_is_an_answer_and_its_words_are_not_logged(home, caplog):
    import asyncio

    from cloakwork_functions.gateway.middleware import RequestMiddleware

    private = "17.31072"

    async def broken(scope, receive, send):
        float(private + "x")

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(RequestMiddleware(broken)(scope, None, send))
    assert sent[0]["status"] == 500
    assert b"internal" in sent[1]["body"]
    assert "ValueError" in caplog.text
    assert private not in caplog.text + str(sent)


def test_an_operator_bounds_the_keys_and_the_client_is_told_before_it_sent_them(
    fresh_home, tmp_path, held_out
):
    with (
        serving(fresh_home, tmp_path / "log", "--keys-quota", "1.5", "--workers", "1") as server,
        server.client() as client,
        pytest.raises(PrivacyError) as refused,
    ):
        client.run("digits", held_out("digits")[0][0], privacy="encrypted")
    assert refused.value.code == "evaluation_keys_too_large"
    assert str(3 << 19) in refused.value.message


@pytest.mark.parametrize(
    "option", [("--workers", "0"), ("--keys-quota", "-1"), ("--keys-days", "nan"), ("--idle-seconds", "soon")]
)
def test_an_option_that_makes_no_sense_is_refused(home, option):
    with pytest.raises(subprocess.CalledProcessError) as refused:
        cli(home, "serve", *option)
    assert "must be" in refused.value.stderr
