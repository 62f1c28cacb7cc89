"""The main job over a real HTTP server: both models, three modes, both clients, and "local:"."""

import asyncio
import stat
import threading
import time

import numpy as np
import pytest
from conftest import serving

from cloakwork import AsyncClient, Client
from cloakwork.errors import CloakworkError, PrivacyError
from cloakwork.wire import usd

MODELS = ("tumor-risk", "digits")


@pytest.mark.parametrize("model", MODELS)
def test_plaintext_is_as_good_as_the_card_says(client, held_out, model):
    records, labels = held_out(model)
    result = client.run(model, records)
    accuracy = (result.output.argmax(axis=1) == labels).mean()
    card = client.models.get(model).card
    assert accuracy == pytest.approx(card.metrics["accuracy"], abs=0.005)
    assert accuracy >= 0.95
    assert result.cost == usd(card.modes["plaintext"].price_nano_usd * len(records))


@pytest.mark.parametrize("model", MODELS)
def test_encrypted_agrees_with_plaintext(client, held_out, model):
    records = held_out(model)[0][:24]
    plain = client.run(model, records).output
    sealed = client.run(model, records, privacy="encrypted")
    assert np.array_equal(sealed.output.argmax(axis=1), plain.argmax(axis=1))
    assert np.abs(sealed.output - plain).max() <= 1e-2
    assert sealed.privacy.bytes_up > 8000 * len(records)


@pytest.mark.parametrize("model", MODELS)
def test_anonymized_is_as_good_as_the_card_says(client, held_out, model):
    records, labels = held_out(model)
    card = client.models.get(model).card.modes["anonymized"]
    draws = [client.run(model, records, privacy="anonymized") for _ in range(8)]
    accuracy = np.mean([draw.output.argmax(axis=1) == labels for draw in draws])
    # Five standard errors of the noise's share: loose enough to hold, tight enough to notice another ε.
    assert accuracy == pytest.approx(card.accuracy, abs=5 * 0.5 / np.sqrt(8 * len(records)))
    assert draws[0].privacy.epsilon == card.epsilon
    assert not np.array_equal(draws[0].output, draws[1].output)


@pytest.mark.parametrize("mode", ["plaintext", "anonymized", "encrypted"])
def test_one_record_comes_back_without_a_batch_dimension(client, held_out, mode):
    record = held_out("digits")[0][0]
    result = client.run("digits", record, privacy=mode)
    assert result.output.shape == (10,)
    assert result.output.sum() == pytest.approx(1.0, abs=1e-3)
    assert (result.model, result.privacy.mode) == ("digits@1", mode)


def test_lists_and_arrays_are_the_same_input(client, held_out):
    record = held_out("tumor-risk")[0][0]
    by_list = client.run("tumor-risk", record.tolist()).output
    assert np.allclose(by_list, client.run("tumor-risk", record).output)


def test_secret_keys_are_written_for_their_owner_alone(client, config, held_out):
    client.run("tumor-risk", held_out("tumor-risk")[0][0], privacy="encrypted")
    files = [path for path in (config / "keys").rglob("*") if path.is_file()]
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in files} == {0o700}


def test_a_second_client_uses_the_keys_of_the_first(server, held_out, config):
    record = held_out("tumor-risk")[0][0]
    with server.client() as first:
        first.run("tumor-risk", record, privacy="encrypted")
    before = sorted((config / "keys").rglob("*"))
    with server.client() as second:
        second.run("tumor-risk", record, privacy="encrypted")
    assert sorted((config / "keys").rglob("*")) == before


def test_keys_that_the_server_lost_are_uploaded_again(server, client, held_out):
    record = held_out("tumor-risk")[0][0]
    client.run("tumor-risk", record, privacy="encrypted")
    for path in server.home.evaluation_keys.rglob("*"):
        if path.is_file():
            path.unlink()
    assert client.run("tumor-risk", record, privacy="encrypted").output.shape == (2,)


@pytest.mark.parametrize("mode", ["plaintext", "anonymized", "encrypted"])
def test_the_async_client_runs_many_at_once(server, held_out, mode):
    records = held_out("tumor-risk")[0][:12]

    async def calls():
        async with AsyncClient(server.address, server.key) as client:
            assert len(await client.models.list()) == 2
            return await asyncio.gather(
                *(client.run("tumor-risk", record, privacy=mode) for record in records)
            )

    results = asyncio.run(calls())
    assert len({result.request_id for result in results}) == 12
    if mode != "anonymized":
        with server.client() as client:
            plain = client.run("tumor-risk", records).output
        assert np.allclose([result.output for result in results], plain, atol=1e-2)


@pytest.mark.parametrize("mode", ["plaintext", "anonymized", "encrypted"])
def test_local_runs_the_same_thing_in_process(fresh_home, held_out, monkeypatch, mode):
    monkeypatch.setenv("CLOAKWORK_HOME", str(fresh_home.root))
    record = held_out("tumor-risk")[0][0]
    with Client("local:") as client:
        assert client.run("tumor-risk", record, privacy=mode).output.shape == (2,)

    async def call():
        async with AsyncClient("local:") as client:
            return await client.run("tumor-risk", record, privacy=mode)

    assert asyncio.run(call()).output.shape == (2,)


def test_repeating_a_call_under_its_idempotency_key_is_charged_once(server, client, held_out):
    record = held_out("tumor-risk")[0][0]
    first = client.run("tumor-risk", record, idempotency_key="the-same-call")
    again = client.run("tumor-risk", record, idempotency_key="the-same-call")
    assert np.array_equal(first.output, again.output)
    assert first.request_id == again.request_id


def test_keys_are_uploaded_once_and_the_report_says_so(fresh_home, tmp_path, held_out):
    record = held_out("tumor-risk")[0][0]
    with serving(fresh_home, tmp_path / "log") as server, server.client() as client:
        reports = [client.run("tumor-risk", record, privacy="encrypted").privacy for _ in range(2)]
    assert reports[0].keys_up > 10_000
    assert reports[1].keys_up == 0


def test_more_epsilon_than_the_user_allows_is_not_spent(server, held_out):
    with (
        Client(server.address, server.key, max_epsilon=1.0) as client,
        pytest.raises(PrivacyError) as refused,
    ):
        client.run("tumor-risk", held_out("tumor-risk")[0][0], privacy="anonymized")
    assert refused.value.code == "epsilon_too_large"


def test_values_beyond_the_cards_bounds_are_clipped_in_anonymized_mode(client):
    assert client.run("digits", np.full((8, 8), 99.0), privacy="anonymized").output.shape == (10,)


def test_closing_local_ends_the_calls_of_other_threads(fresh_home, held_out, monkeypatch):
    monkeypatch.setenv("CLOAKWORK_HOME", str(fresh_home.root))
    client = Client("local:")
    records = held_out("digits")[0][:64]
    client.run("digits", records[0], privacy="encrypted")
    ended = []

    def call():
        try:
            client.run("digits", records, privacy="encrypted")
        except CloakworkError as failure:
            ended.append(failure)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.3)
    client.close()
    thread.join(5)
    assert not thread.is_alive()
    assert len(ended) == 1


def test_many_records_take_the_program_that_packs_them(client, held_out):
    records, labels = held_out("digits")
    offer = client.models.get("digits").card.modes["encrypted"]
    many = offer.programs["throughput"].records_from
    assert 2 < many < len(records)
    few = client.run("digits", records[:2], privacy="encrypted", deadline=120.0)
    answer = client.run("digits", records, privacy="encrypted", deadline=120.0)
    assert np.abs(answer.output - client.run("digits", records).output).max() <= 1e-2
    assert (answer.output.argmax(axis=1) == labels).mean() == offer.accuracy
    # One ciphertext for each pixel, however many records.
    per_record = few.privacy.bytes_up / 2
    assert answer.privacy.bytes_up < per_record * len(records) / 4
    assert answer.cost == len(records) * few.cost / 2
