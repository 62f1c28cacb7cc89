"""Processes die at the worst moment, by SIGKILL: answers arrive all the same, and the books are right."""

import asyncio
import os
import signal
import socket
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from chaos import chaos, free_port
from conftest import serving

from cloakwork import Client
from cloakwork.errors import CloakworkError
from cloakwork.modes import open_keys


def entries(home):
    connection = sqlite3.connect(home.database)
    try:
        return connection.execute("SELECT id, kind, amount FROM entries WHERE kind <> 'credit'").fetchall()
    finally:
        connection.close()


def busy(pid):
    """CPU ticks a process has used."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return sum(int(ticks) for ticks in after_name.split()[11:13])


def test_a_worker_killed_in_the_middle_of_a_request_loses_nothing(fresh_home, tmp_path, held_out):
    records = held_out("digits")[0][:64]
    with serving(fresh_home, tmp_path / "log") as server, server.client() as client:
        plain = client.run("digits", records).output
        client.run("digits", records[0], privacy="encrypted")
        answers = []
        call = threading.Thread(
            target=lambda: answers.append(client.run("digits", records, privacy="encrypted"))
        )
        began = {pid: busy(pid) for pid in server.workers()}
        call.start()
        victim = wait_for(lambda: next((pid for pid in began if busy(pid) > began[pid] + 20), None))
        os.kill(victim, signal.SIGKILL)
        assert call.is_alive(), "the request must be under way when its worker dies"
        call.join(60)
        assert victim not in server.workers()
    (answer,) = answers
    assert np.abs(answer.output - plain).max() <= 1e-2
    settled = [run for run, kind, _ in entries(fresh_home) if kind == "settle"]
    assert settled.count(answer.request_id) == 1


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_gateway_killed_under_load_loses_no_call_and_charges_none_twice(fresh_home, database, request):
    """bench/ledger_kill9.py does it a thousand times."""
    url = None if database == "sqlite" else request.getfixturevalue("postgres_url")
    seen = asyncio.run(chaos(fresh_home, url, free_port(), kills=6))
    assert len(seen.acknowledged) > 20
    assert (seen.lost, seen.doubled, seen.unsound) == (0, 0, [])


def test_a_call_repeated_after_its_gateway_died_is_answered_and_charged_once(fresh_home, tmp_path, held_out):
    records = held_out("digits")[0][:64]
    with serving(fresh_home, tmp_path / "log") as server, server.client() as client:
        client.run("digits", records[0], privacy="encrypted")
        call = threading.Thread(target=attempt, args=(client, records))
        call.start()
        wait_for(lambda: sum(kind == "hold" for _, kind, _ in entries(fresh_home)) == 2)
        server.kill()
        call.join(60)
    with serving(fresh_home, tmp_path / "log") as after, Client(after.address, server.key) as client:
        answer = client.run("digits", records, privacy="encrypted", idempotency_key="the one", deadline=20.0)
    settled = [(run, amount) for run, kind, amount in entries(fresh_home) if kind == "settle"]
    assert len(settled) == 2
    assert (answer.request_id, 64 * 20_000) in settled


def attempt(client, records):
    with suppress(CloakworkError):
        client.run("digits", records, privacy="encrypted", idempotency_key="the one", deadline=2.0)


def wait_for(condition, seconds=30.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.002)
    raise TimeoutError


def test_an_upload_goes_on_where_a_killed_gateway_and_a_killed_client_left_it(
    fresh_home, tmp_path, held_out, monkeypatch
):
    record = held_out("digits")[0][0]
    monkeypatch.setenv("CLOAKWORK_CONFIG", str(tmp_path / "config"))
    with serving(fresh_home, tmp_path / "log") as server:
        address = f"{server.address}/v1/models/digits/modes/encrypted?program=latency"
        document = httpx.get(address, headers=server.headers)
        keys = open_keys(document.content, tmp_path / "config" / "keys")
        frame = keys.evaluation_keys()
        half = send_half(server, keys.fingerprint, frame)
        stage = fresh_home.evaluation_keys / "default" / f"{keys.fingerprint}.{len(frame)}"
        wait_for(lambda: stage.exists() and stage.stat().st_size >= 1 << 20)
        server.kill()
        half.close()
    there = stage.stat().st_size
    assert there < len(frame)
    with serving(fresh_home, tmp_path / "log") as after, Client(after.address, server.key) as client:
        answer = client.run("digits", record, privacy="encrypted")
        assert answer.privacy.keys_up == len(frame) - there
        assert client.run("digits", record, privacy="encrypted").privacy.keys_up == 0
    assert stage.with_suffix("").read_bytes() == frame


def send_half(server, fingerprint, frame):
    """Begin to upload keys and stop in the middle; closing what this returns is hanging up."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    head = (
        f"PUT /v1/models/digits/evaluation-keys/{fingerprint} HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {server.key}\r\ncontent-length: {len(frame)}\r\n"
        f"content-range: bytes 0-{len(frame) - 1}/{len(frame)}\r\n\r\n"
    )
    connection.sendall(head.encode() + frame[: len(frame) // 2])
    return connection
