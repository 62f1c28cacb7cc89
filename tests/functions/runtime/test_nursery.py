"""Encrypted programs: workers forked from one process that loaded and encoded them."""

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import descendants, parent

from cloakwork.errors import CloakworkError
from cloakwork.wire import Mode
from cloakwork_functions.registry import Artifact, Registry
from cloakwork_functions.registry.artifact import write_manifest
from cloakwork_functions.runtime import Call, LocalRuntime, process
from cloakwork_privacy.ckks.secret import SecretKeys
from cloakwork_privacy.compiler.signature import Signature


@pytest.fixture(scope="module")
def artifact(home):
    registry = Registry(home.registry)
    return registry.artifact(registry.resolve("digits").digest)


@pytest.fixture(scope="module")
def keys(artifact):
    return SecretKeys.generate(
        Signature.from_json((artifact.folder / "encrypted/latency/signature.json").read_bytes())
    )


@pytest.fixture(scope="module")
def sealed(artifact, keys, held_out, tmp_path_factory):
    """Makes calls: the first n held-out records under one set of keys."""
    frame = keys.evaluation_keys()
    path = tmp_path_factory.mktemp("keys") / hashlib.sha256(frame).hexdigest()
    path.write_bytes(frame)

    def make(count, artifact=artifact):
        body = keys.seal(held_out("digits")[0][:count])
        return Call(artifact, Mode.ENCRYPTED, body, count, path)

    return make


def with_runtime(work, **settings):
    async def inside():
        runtime = LocalRuntime(**settings)
        try:
            return await work(runtime)
        finally:
            await runtime.close()

    return asyncio.run(inside())


def pids(runtime):
    return [pid for those in runtime.workers().values() for pid in those]


def family(runtime):
    """The nursery and its children."""
    nursery = parent(pids(runtime)[0])
    return [nursery, *descendants(nursery)]


async def until(condition):
    for _ in range(1000):
        if found := condition():
            return found
        await asyncio.sleep(0.02)
    raise TimeoutError


def threads(pid):
    return list(Path(f"/proc/{pid}/task").iterdir())


def environment(pid):
    return Path(f"/proc/{pid}/environ").read_text()


def gone(pid):
    """Whether a process is no more, not even as a zombie."""
    return not Path(f"/proc/{pid}").exists()


async def fill(runtime, sealed, workers):
    """Load a runtime until so many workers run."""
    calls = [asyncio.create_task(runtime.run(sealed(4), 60)) for _ in range(4 * workers)]
    await until(lambda: len(pids(runtime)) == workers)
    return calls


def test_no_worker_is_told_the_secret_or_the_database(sealed, home, held_out, monkeypatch):
    written = {"CLOAKWORK_SECRET": "5e" * 32, "CLOAKWORK_DATABASE_URL": "postgres://x", "PGPASSWORD": "pw"}
    for name, text in {**written, "HARMLESS": "1"}.items():
        monkeypatch.setenv(name, text)
    registry = Registry(home.registry)
    plain = registry.artifact(registry.resolve("tumor-risk").digest)
    record = held_out("tumor-risk")[0][:1].astype("<f4").tobytes()

    async def work(runtime):
        await runtime.run(sealed(1), 60)
        processes = family(runtime)
        await runtime.run(Call(plain, Mode.PLAINTEXT, record, 1), 60)
        return [environment(pid) for pid in {*processes, *pids(runtime)}]

    told = with_runtime(work, workers=1)
    assert len(told) == 3, "a nursery, a worker that it forked, and one that was spawned"
    for text in told:
        assert "HARMLESS=1" in text
        assert not any(name in text for name in written)


def test_workers_are_forked_by_one_process_that_has_one_thread(sealed):
    async def work(runtime):
        await asyncio.gather(*await fill(runtime, sealed, 3))
        (nursery,) = {parent(pid) for pid in pids(runtime)}
        assert parent(nursery) == os.getpid()
        return threads(nursery)

    assert len(with_runtime(work, workers=3)) == 1


def test_workers_are_as_many_as_the_load_needs(sealed):
    async def work(runtime):
        for _ in range(4):
            await runtime.run(sealed(1), 60)
        alone = len(pids(runtime))
        await asyncio.gather(*await fill(runtime, sealed, 3))
        return alone, len(pids(runtime))

    assert with_runtime(work, workers=3) == (1, 3)


def test_a_light_load_lets_the_others_idle_out(sealed):
    async def work(runtime):
        await asyncio.gather(*await fill(runtime, sealed, 3))
        for _ in range(1000):
            await runtime.run(sealed(1), 60)
            if len(pids(runtime)) == 1:
                break
        return len(pids(runtime))

    assert with_runtime(work, workers=3, idle_seconds=0.5) == 1


def test_siblings_share_no_randomness(sealed, keys):
    """A mask that two of them draw alike would cancel out of the difference of their answers."""
    call = sealed(1)

    async def work(runtime):
        answers = []
        for _ in range(3):
            answers.append((await runtime.run(call, 60)).body)
            (worker,) = pids(runtime)
            waiting = asyncio.create_task(runtime.run(sealed(16), 60))  # keeps the nursery
            await asyncio.sleep(0)
            os.kill(worker, signal.SIGKILL)
            await until(lambda worker=worker: gone(worker))
            waiting.cancel()
        return answers

    answers = with_runtime(work, workers=1)
    assert len(set(answers)) == 3
    outputs = [keys.open(answer, call.body) for answer in answers]
    assert np.ptp(outputs, axis=0).max() < 1e-2


@pytest.mark.parametrize("who", ["worker", "nursery", "both"])
def test_a_kill_in_the_middle_of_a_request_loses_nothing(sealed, keys, held_out, who):
    call = sealed(16)

    async def work(runtime):
        await runtime.run(sealed(1), 60)
        (worker,) = pids(runtime)
        nursery = parent(worker)
        os.kill(worker, signal.SIGSTOP)
        waiting = asyncio.create_task(runtime.run(call, 60))
        await asyncio.sleep(0.1)
        victims = {"worker": [worker], "nursery": [nursery], "both": [nursery, worker]}[who]
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        if worker not in victims:
            os.kill(worker, signal.SIGCONT)
        answer = await waiting
        await until(lambda: all(gone(victim) for victim in victims if victim == worker))
        await runtime.run(sealed(1), 60)
        (after,) = pids(runtime)
        return answer, who == "worker" or parent(after) != nursery

    answer, renewed = with_runtime(work, workers=1)
    assert renewed
    assert len(keys.open(answer.body, call.body)) == 16


def test_workers_that_died_at_rest_cost_a_call_no_try(sealed):
    async def work(runtime):
        await asyncio.gather(*await fill(runtime, sealed, 4))
        before = pids(runtime)
        os.kill(parent(before[0]), signal.SIGKILL)
        await until(lambda: all(gone(pid) for pid in before))
        await runtime.run(sealed(1), 60)
        return before, pids(runtime)

    before, after = with_runtime(work, workers=4)
    assert not set(before) & set(after)


def test_a_hanging_worker_is_killed(sealed):
    async def work(runtime):
        await runtime.run(sealed(1), 60)
        (worker,) = pids(runtime)
        os.kill(worker, signal.SIGSTOP)
        with pytest.raises(CloakworkError) as late:
            await runtime.run(sealed(1), 0.3)
        assert late.value.code == "deadline_exceeded"
        await until(lambda: gone(worker))
        await runtime.run(sealed(1), 60)

    with_runtime(work, workers=1)


def test_a_hanging_nursery_is_replaced(sealed, monkeypatch):
    async def work(runtime):
        await runtime.run(sealed(1), 60)
        (worker,) = pids(runtime)
        nursery = parent(worker)
        os.kill(nursery, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        monkeypatch.setattr(process, "START_SECONDS", 5.0)
        await runtime.run(sealed(1), 120)
        return gone(nursery)

    assert with_runtime(work, workers=1)


def test_idle_workers_stop_and_the_last_takes_the_nursery_along(sealed):
    async def work(runtime):
        await runtime.run(sealed(1), 60)
        everyone = family(runtime)
        await until(lambda: all(gone(pid) for pid in everyone))
        await runtime.run(sealed(1), 60)
        return everyone

    assert len(with_runtime(work, workers=2, idle_seconds=0.2)) == 2


def test_closing_leaves_nobody_not_even_one_that_hangs(sealed):
    async def work(runtime):
        await asyncio.gather(*await fill(runtime, sealed, 2))
        os.kill(pids(runtime)[0], signal.SIGSTOP)
        return family(runtime)

    everyone = with_runtime(work, workers=2)
    assert len(everyone) == 3
    assert all(gone(pid) for pid in everyone)


ENGINE = """
import asyncio, sys
from pathlib import Path
from cloakwork.wire import Mode
from cloakwork_functions.registry import Artifact
from cloakwork_functions.runtime import Call, LocalRuntime

async def main(folder, digest, keys):
    call = Call(Artifact.open(Path(folder), digest), Mode.ENCRYPTED, b"", 0, Path(keys))
    await LocalRuntime().run(call, 60)
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


def test_workers_and_nursery_end_with_a_killed_engine(artifact, sealed):
    arguments = [str(artifact.folder), artifact.digest, str(sealed(1).keys)]
    with subprocess.Popen([sys.executable, "-c", ENGINE, *arguments], stdout=subprocess.PIPE) as engine:
        assert engine.stdout.readline() == b"ready\n"
        everyone = list(descendants(engine.pid))
        assert len(everyone) == 2
        engine.kill()
    end = time.monotonic() + 30
    while not all(ended(pid) for pid in everyone):
        assert time.monotonic() < end
        time.sleep(0.02)


def ended(pid):
    """Whether a process is no more, or only its first parent's to bury."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def copied(artifact, folder):
    shutil.copytree(artifact.folder, folder)
    return folder


def test_an_artifact_changed_after_it_was_opened_does_not_run(artifact, sealed, tmp_path):
    folder = copied(artifact, tmp_path / "copy")
    (folder / "encrypted" / "latency" / "circuit.json").write_bytes(b"something else")
    changed = Artifact(artifact.digest, folder, artifact.card)

    async def work(runtime):
        return await asyncio.gather(
            *(runtime.run(sealed(1, changed), 60) for _ in range(3)), return_exceptions=True
        )

    failures = with_runtime(work, workers=2)
    assert {failure.code for failure in failures} == {"model_unavailable"}


def test_a_program_that_does_not_load_is_reported_and_mended(artifact, sealed, tmp_path):
    folder = copied(artifact, tmp_path / "copy")
    circuit = folder / "encrypted" / "latency" / "circuit.json"
    good = circuit.read_bytes()
    circuit.write_bytes(b"{}")
    broken = Artifact(write_manifest(folder), folder, artifact.card)

    async def work(runtime):
        with pytest.raises(CloakworkError) as failure:
            await runtime.run(sealed(1, broken), 60)
        return failure.value

    failure = with_runtime(work)
    assert failure.code == "worker_failed"
    assert "does not start" in failure.message
    circuit.write_bytes(good)
    mended = Artifact(write_manifest(folder), folder, artifact.card)
    assert with_runtime(lambda runtime: runtime.run(sealed(1, mended), 60))
