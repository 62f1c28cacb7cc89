"""The local engine with real worker processes."""

import asyncio
import os
import signal
import time
from itertools import pairwise

import numpy as np
import pytest

from cloakwork.errors import CloakworkError
from cloakwork.wire import Mode
from cloakwork_functions.registry import Registry
from cloakwork_functions.runtime import Call, Computed, LocalRuntime
from cloakwork_functions.runtime.pool import Limits, Pool
from cloakwork_functions.runtime.process import WorkerProcess


@pytest.fixture(scope="module")
def artifact(home):
    registry = Registry(home.registry)
    return registry.artifact(registry.resolve("tumor-risk").digest)


@pytest.fixture(scope="module")
def records(held_out):
    return held_out("tumor-risk")[0]


def call(artifact, records):
    return Call(artifact, Mode.PLAINTEXT, records.astype("<f4").tobytes(), len(records))


def outputs(*computed):
    return np.frombuffer(b"".join(each.body for each in computed), "<f4").reshape(-1, 2)


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


def test_nothing_runs_before_the_first_call_and_one_worker_after_it(artifact, records):
    async def work(runtime):
        before = pids(runtime)
        await runtime.run(call(artifact, records[:1]), 30)
        await runtime.run(call(artifact, records[:1]), 30)
        return before, pids(runtime)

    before, after = with_runtime(work)
    assert before == []
    assert len(after) == 1


def test_calls_that_wait_together_are_answered_each_with_its_own(artifact, records):
    async def work(runtime):
        together = await runtime.run(call(artifact, records), 30)
        sizes = [1, 3, 1, 7, 2]
        starts = np.cumsum([0, *sizes])
        parts = await asyncio.gather(
            *(runtime.run(call(artifact, records[a:b]), 30) for a, b in pairwise(starts))
        )
        return outputs(together)[: sum(sizes)], outputs(*parts)

    together, parts = with_runtime(work)
    assert np.allclose(together, parts, atol=1e-6)


@pytest.fixture
def batches(monkeypatch):
    """How many calls each batch held."""
    sizes = []
    run = WorkerProcess.run

    async def counted(self, calls):
        sizes.append(len(calls))
        return await run(self, calls)

    monkeypatch.setattr(WorkerProcess, "run", counted)
    return sizes


def test_what_waits_goes_in_one_batch(artifact, records, batches):
    async def work(runtime):
        await asyncio.gather(*(runtime.run(call(artifact, records[:1]), 30) for _ in range(40)))

    with_runtime(work)
    assert batches == [40]


def test_the_computing_of_a_batch_is_shared_by_records(artifact, records, batches):
    sizes = [1, 3, 4]

    async def work(runtime):
        await runtime.run(call(artifact, records[:1]), 30)
        began = time.perf_counter()
        done = await asyncio.gather(*(runtime.run(call(artifact, records[:size]), 30) for size in sizes))
        return [computed.microseconds for computed in done], (time.perf_counter() - began) * 1e6

    shares, elapsed = with_runtime(work)
    assert batches == [1, len(sizes)]
    assert 0 < sum(shares) <= elapsed, "together they are not told of more than there was"
    assert [share / shares[0] for share in shares] == pytest.approx(sizes, rel=0.05)


def test_an_idle_worker_stops_and_the_next_call_starts_another(artifact, records):
    async def work(runtime):
        await runtime.run(call(artifact, records[:1]), 30)
        (first,) = pids(runtime)
        for _ in range(200):
            await asyncio.sleep(0.05)
            if not pids(runtime):
                break
        stopped = pids(runtime)
        await runtime.run(call(artifact, records[:1]), 30)
        return first, stopped, pids(runtime)

    first, stopped, (second,) = with_runtime(work, idle_seconds=0.2)
    assert stopped == []
    assert second != first
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_a_killed_worker_is_replaced_and_the_call_that_waited_is_answered(artifact, records):
    async def work(runtime):
        await runtime.run(call(artifact, records[:1]), 30)
        (victim,) = pids(runtime)
        os.kill(victim, signal.SIGSTOP)
        waiting = asyncio.create_task(runtime.run(call(artifact, records), 30))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        os.kill(victim, signal.SIGKILL)
        return victim, outputs(await waiting), pids(runtime)

    victim, answer, survivors = with_runtime(work)
    assert len(answer) == len(records)
    assert victim not in survivors


def test_a_hanging_worker_is_killed_when_its_callers_ran_out_of_time(artifact, records):
    async def work(runtime):
        await runtime.run(call(artifact, records[:1]), 30)
        (victim,) = pids(runtime)
        os.kill(victim, signal.SIGSTOP)
        with pytest.raises(CloakworkError) as late:
            await runtime.run(call(artifact, records[:1]), 0.3)
        answer = await runtime.run(call(artifact, records[:1]), 30)
        return late.value.code, victim in pids(runtime), len(outputs(answer))

    assert with_runtime(work) == ("deadline_exceeded", False, 1)


def test_an_abandoned_call_is_not_run(artifact, records, batches):
    async def work(runtime):
        waiting = asyncio.create_task(runtime.run(call(artifact, records), 30))
        await asyncio.sleep(0)
        waiting.cancel()
        return len(outputs(await runtime.run(call(artifact, records[:2]), 30)))

    assert with_runtime(work) == 2
    assert batches == [1]


def test_a_call_that_kills_its_worker_takes_nobody_along(artifact, records):
    """A call with a body that the graph cannot take ends its worker; those beside it are answered."""
    poison = Call(artifact, Mode.PLAINTEXT, b"\0" * 3, 1)

    async def work(runtime):
        good = [runtime.run(call(artifact, records[:1]), 30) for _ in range(20)]
        return await asyncio.gather(*good[:10], runtime.run(poison, 30), *good[10:], return_exceptions=True)

    answers = with_runtime(work)
    assert getattr(answers.pop(10), "code", None) == "worker_failed"
    assert all(isinstance(answer, Computed) for answer in answers)


def test_a_full_queue_is_refused(artifact, records):
    async def inside():
        pool = Pool(artifact, Mode.PLAINTEXT, Limits(workers=1, records=8, idle_seconds=1, waiting=2))
        calls = [asyncio.create_task(pool.run(call(artifact, records[:1]), 30)) for _ in range(3)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        await pool.close()
        return [getattr(answer, "code", "answered") for answer in done]

    assert asyncio.run(inside()) == ["answered", "answered", "overloaded"]


@pytest.mark.parametrize("under_way", [False, True])
def test_closing_fails_what_waits_and_what_is_under_way(artifact, records, under_way):
    async def inside():
        runtime = LocalRuntime()
        if under_way:
            await runtime.run(call(artifact, records[:1]), 30)
            os.kill(pids(runtime)[0], signal.SIGSTOP)
        waiting = asyncio.create_task(runtime.run(call(artifact, records[:1]), 30))
        await asyncio.sleep(0.05 if under_way else 0)
        await runtime.close()
        return await asyncio.wait_for(asyncio.gather(waiting, return_exceptions=True), 5)

    (failure,) = asyncio.run(inside())
    assert failure.code == "worker_failed"


def test_an_artifact_changed_after_it_was_opened_does_not_run(trained, tmp_path, records):
    registry = Registry(tmp_path)
    info = registry.publish(trained("tumor-risk")[1])
    artifact = registry.artifact(info.digest)
    (artifact.folder / "plaintext" / "model.onnx").write_bytes(b"something else")
    with pytest.raises(CloakworkError) as failure:
        with_runtime(lambda runtime: runtime.run(call(artifact, records[:1]), 30))
    assert failure.value.code == "model_unavailable"
