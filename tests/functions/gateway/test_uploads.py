"""Uploads of evaluation keys in chunks, by the SDK's own flow against the gateway's own endpoints."""

import asyncio
import hashlib
import os
import time
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Router

from cloakwork import upload as client_side
from cloakwork.chunk import KeyUpload, Limit
from cloakwork.config import Config
from cloakwork.errors import BusyError, CloakworkError, PrivacyError, TransportError, error
from cloakwork.exchange import Deadline, Exchange, Pause
from cloakwork.wire import Header, Response
from cloakwork_functions.gateway import KeyLimits, http, keystore
from cloakwork_functions.gateway.auth import LOCAL
from cloakwork_functions.gateway.keystore import KeyStore
from cloakwork_functions.gateway.middleware import RequestMiddleware
from cloakwork_functions.gateway.routes import routes
from cloakwork_functions.gateway.service import Service
from cloakwork_functions.gateway.stage import Stage
from cloakwork_functions.registry import Registry
from cloakwork_functions.runtime import Computed
from cloakwork_privacy.ckks import frames

DIGEST = "0" * 64
OVERHEAD = len(frames.encode(frames.Frame(frames.Kind.EVALUATION_KEYS, bytes(32), bytes(32), (b"",))))


class Checker:
    """A runtime that finds whatever keys it is given to be of use, or fails as told."""

    def __init__(self):
        self.failure = None

    async def run(self, call, timeout):
        assert hashlib.sha256(call.keys.read_bytes()).hexdigest() == call.keys.stem
        if self.failure is not None:
            raise self.failure
        return Computed(b"", 0)


class Gateway:
    """The endpoints over a folder of keys, asked without a socket."""

    def __init__(self, home, root, limits=None):
        self.root = root
        self.runtime = Checker()
        self.keystore = KeyStore(root, limits or KeyLimits())
        books = dict.fromkeys(("store", "ledger", "keys", "catalogue", "signing", "pace", "calls"))
        service = Service(
            registry=Registry(home.registry), runtime=self.runtime, keystore=self.keystore, **books
        )
        self.app = RequestMiddleware(Router(routes(service)))

    def files(self):
        return {path.name: path.read_bytes() for path in self.root.glob("*/*")}

    async def ask(self, request, cut=None):
        """Send a request, and hang up after `cut` bytes of its body."""
        answer = []
        body, hung_up = request.body[:cut], cut is not None
        pieces = [body[at : at + 50] for at in range(0, len(body), 50)] or [b""]

        async def receive():
            if not pieces:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces) or hung_up}

        async def send(message):
            answer.append(message)

        headers = {"content-length": str(len(request.body)), **request.headers}
        scope = {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "account": LOCAL,
        }
        await self.app(scope, receive, send)
        if hung_up:
            raise TransportError("connection_failed", "cut")
        named = {name.decode(): value.decode() for name, value in answer[0]["headers"]}
        return Response(answer[0]["status"], named, answer[1]["body"])

    def drive(self, flow, cuts=()):
        """Run a flow to its end; each PUT is cut off where `cuts` says."""
        cuts, requests = list(cuts), []
        step = next(flow)
        while True:
            try:
                if isinstance(step, Pause):
                    step = flow.send(None)
                    continue
                requests.append(step)
                cut = cuts.pop(0) if step.method == "PUT" and cuts else None
                try:
                    answer = asyncio.run(self.ask(step, cut))
                except TransportError as broken:
                    step = flow.throw(broken)
                else:
                    step = flow.send(answer)
            except StopIteration as end:
                return end.value, requests

    def upload(self, frame, cuts=(), progress=client_side.unheard):
        return self.drive(upload_flow(frame, progress), cuts)

    def put(self, frame, content_range=None, body=b"", fingerprint=None):
        return self._call("PUT", frame, {Header.CONTENT_RANGE: content_range or ""}, body, fingerprint)

    def get(self, frame):
        return self._call("GET", frame, {}, b"", None)

    def delete(self, frame):
        return self._call("DELETE", frame, {}, b"", None)

    def _call(self, method, frame, headers, body, fingerprint):
        path = where(fingerprint or name(frame))
        headers = {key: value for key, value in headers.items() if value}
        flow = exchange().call(method, path, Deadline(10.0), headers, body)
        answer, _ = self.drive(flow)
        return client_side.decoded(KeyUpload, answer)


def exchange():
    return Exchange(Config("http://host", "secret", None))


def upload_flow(frame, progress=client_side.unheard):
    return client_side.upload(exchange(), where(name(frame)), lambda: frame, Deadline(60.0), progress)


def where(fingerprint):
    return f"/v1/models/tumor-risk/evaluation-keys/{fingerprint}"


def name(frame):
    return hashlib.sha256(frame).hexdigest()


@pytest.fixture(scope="module")
def program(trained):
    return hashlib.sha256(
        (trained("tumor-risk")[1] / "encrypted" / "latency" / "signature.json").read_bytes()
    ).digest()


@pytest.fixture(scope="module")
def frame_of(program):
    def make(size, fill=b"k", kind=frames.Kind.EVALUATION_KEYS, program=program):
        part = (fill * size)[: size - OVERHEAD]
        frame = frames.encode(frames.Frame(kind, program, bytes(32), (part,)))
        assert len(frame) == size
        return frame

    return make


@pytest.fixture
def gateway(home, tmp_path):
    return Gateway(home, tmp_path / "keys")


@contextmanager
def sizes(chunk, piece):
    """Chunks and pieces of so many bytes, so that small keys have many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Limit, "CHUNK", chunk)
        patch.setattr(http, "PIECE_BYTES", piece)
        yield


@given(
    st.tuples(st.integers(OVERHEAD, 3000), st.integers(OVERHEAD, 1500), st.integers(OVERHEAD, 800)),
    st.lists(st.none() | st.integers(0, 1500), max_size=14),
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_split_and_any_cuts_give_the_same_bytes(home, frame_of, tmp_path, lengths, cuts):
    size, *chunk_and_piece = lengths
    frame = frame_of(size)
    root = tmp_path / os.urandom(8).hex()
    with sizes(*chunk_and_piece):
        while True:  # each round is a client and a gateway started anew
            gateway = Gateway(home, root)
            before = gateway.get(frame).received
            round_cuts, cuts = cuts[:6], cuts[6:]
            try:
                sent, _ = gateway.upload(frame, round_cuts)
                break
            except TransportError:
                assert gateway.get(frame).received >= before
    assert sent <= size
    assert gateway.files() == {name(frame): frame}
    assert gateway.get(frame) == KeyUpload(name(frame), size, complete=True)
    assert gateway.upload(frame)[0] == 0


def test_a_small_set_is_one_request(gateway, frame_of):
    sent, requests = gateway.upload(frame_of(5000))
    assert sent == 5000
    assert [request.method for request in requests] == ["GET", "PUT"]


def test_what_arrived_before_the_cut_is_not_sent_again(gateway, frame_of):
    frame, told = frame_of(3000), []
    with sizes(1000, 100):
        sent, requests = gateway.upload(frame, [None, 550], lambda *state: told.append(state))
    # The first chunk, the second one cut, the same tried again and refused, the rest from where it broke off.
    assert [request.headers.get(Header.CONTENT_RANGE) for request in requests] == [
        None,
        "bytes 0-999/3000",
        "bytes 1000-1999/3000",
        "bytes 1000-1999/3000",
        None,
        "bytes 1550-2549/3000",
        "bytes 2550-2999/3000",
    ]
    assert sent == 2450
    assert told == [(0, 3000), (1000, 3000), (1550, 3000), (2550, 3000), (3000, 3000)]


def test_a_plain_put_is_the_whole(gateway, frame_of):
    frame = frame_of(2000)
    assert gateway.put(frame, body=frame).complete
    assert gateway.files() == {name(frame): frame}


REFUSED = [
    ("upload_offset_mismatch", "bytes 600-699/2000", 100),  # out of order
    ("upload_offset_mismatch", "bytes 400-599/2000", 200),  # overlapping
    ("upload_offset_mismatch", "bytes */2000", 0),  # the end before the end
    ("upload_total_mismatch", "bytes 500-599/2001", 100),
    ("upload_range_invalid", "bytes 500-2000/2000", 1501),  # beyond the total
    ("upload_range_invalid", "bytes 599-500/2000", 100),
    ("upload_range_invalid", "bytes 500-598/2000", 100),  # another size than the body's
    ("upload_range_invalid", "bytes 500-/2000", 100),
    ("upload_range_invalid", "chunks 500-599/2000", 100),
    ("upload_range_invalid", f"bytes 500-599/{'9' * 5000}", 100),
    ("evaluation_keys_too_large", f"bytes 500-599/{Limit.EVALUATION_KEYS + 1}", 100),
]


@pytest.mark.parametrize(("code", "content_range", "size"), REFUSED)
def test_a_chunk_that_is_not_due_is_refused_and_changes_nothing(gateway, frame_of, code, content_range, size):
    frame = frame_of(2000)
    gateway.put(frame, "bytes 0-499/2000", frame[:500])
    before = gateway.files()
    with pytest.raises(CloakworkError) as refused:
        gateway.put(frame, content_range, b"x" * size)
    assert refused.value.code == code
    assert len(refused.value.message) > 40
    assert gateway.files() == before
    assert gateway.upload(frame)[0] == 1500


def test_keys_that_do_not_match_their_fingerprint_are_gone_at_once(gateway, frame_of):
    frame = frame_of(2000)
    gateway.put(frame, "bytes 0-499/2000", frame[:500], DIGEST)
    with pytest.raises(PrivacyError) as refused:
        gateway.put(frame, "bytes 500-1999/2000", frame[500:], DIGEST)
    assert refused.value.code == "evaluation_keys_invalid"
    assert gateway.files() == {}


def test_a_stage_that_was_damaged_is_uploaded_from_its_beginning(gateway, frame_of):
    frame = frame_of(3000)
    gateway.put(frame, "bytes 0-999/3000", frame[:900] + b"\0" * 100)
    sent, _ = gateway.upload(frame)
    assert sent == 3000
    assert gateway.files() == {name(frame): frame}


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("secret_key_refused", {"kind": frames.Kind.SECRET_KEY}),
        ("keys_for_another_program", {"program": bytes(32)}),
        ("frame_invalid", {"kind": frames.Kind.REQUEST}),
    ],
)
def test_nothing_of_a_frame_that_is_no_such_keys_is_stored(gateway, frame_of, monkeypatch, code, changes):
    monkeypatch.setattr(Stage, "append", None)
    with pytest.raises(PrivacyError) as refused:
        gateway.upload(frame_of(2000, **changes))
    assert refused.value.code == code
    assert gateway.files() == {}


def test_two_who_upload_the_same_keys_at_once_do_no_harm(gateway, frame_of):
    frame = frame_of(4000)

    async def at_once():
        flows = [upload_flow(frame) for _ in range(2)]
        await asyncio.gather(*(alternately(flow) for flow in flows))

    async def alternately(flow):
        step = next(flow)
        while True:
            await asyncio.sleep(0)
            try:
                step = flow.send(None if isinstance(step, Pause) else await gateway.ask(step))
            except StopIteration:
                return

    with sizes(500, 100):
        asyncio.run(at_once())
    assert gateway.files() == {name(frame): frame}


def test_a_second_writer_waits_for_the_first(gateway, frame_of):
    frame = frame_of(1000)
    path = gateway.root / LOCAL / f"{name(frame)}.1000"
    path.parent.mkdir(parents=True)
    with Stage.open(path) as first:
        first.append(frame[:600])
        with pytest.raises(BusyError) as refused:
            gateway.keystore.open_stage(LOCAL, name(frame), 1000)
        assert refused.value.code == "in_flight"
        with pytest.raises(BusyError):
            gateway.keystore.discard(LOCAL, name(frame))
    assert gateway.upload(frame)[0] == 400


@pytest.mark.parametrize("fails", [error("worker_failed", "no"), error("overloaded", "no")])
def test_a_fault_of_ours_costs_nobody_the_upload(gateway, frame_of, fails):
    frame = frame_of(1000)
    gateway.runtime.failure = fails
    with pytest.raises(type(fails)):
        gateway.upload(frame)
    assert gateway.get(frame) == KeyUpload(name(frame), 1000, complete=False)
    gateway.runtime.failure = None
    assert gateway.upload(frame)[0] == 0
    assert gateway.get(frame).complete


def test_keys_of_no_use_are_gone_at_once(gateway, frame_of):
    gateway.runtime.failure = error("evaluation_keys_invalid", "no")
    with pytest.raises(PrivacyError):
        gateway.upload(frame_of(1000))
    assert gateway.files() == {}


def test_deleting_ends_an_upload_and_removes_keys(gateway, frame_of):
    frame = frame_of(1000)
    gateway.put(frame, "bytes 0-499/1000", frame[:500])
    assert gateway.delete(frame).received == 0
    gateway.upload(frame)
    gateway.delete(frame)
    assert gateway.files() == {}


@pytest.fixture
def tight(home, tmp_path):
    """A gateway with room for three sets of 1000 bytes."""
    return Gateway(home, tmp_path / "keys", KeyLimits(quota=3500))


def aged(gateway, frame, seconds):
    path = gateway.keystore.find(LOCAL, name(frame))
    os.utime(path, (time.time() - seconds,) * 2)


def test_the_least_recently_used_set_of_the_account_makes_room(tight, frame_of):
    a, b, c, d = (frame_of(1000, fill) for fill in (b"a", b"b", b"c", b"d"))
    other = tight.root / "cw_other" / name(a)
    other.parent.mkdir(parents=True)
    other.write_bytes(a * 3)
    for age, frame in enumerate((a, b, c)):
        tight.upload(frame)
        aged(tight, frame, 300 - 100 * age)
    tight.keystore.find(LOCAL, name(a))  # used again
    tight.upload(d)
    kept = {path.name for path in (tight.root / LOCAL).iterdir()}
    assert kept == {name(a), name(c), name(d)}
    assert other.exists()


def test_bytes_on_their_way_count_and_go_after_whole_sets(tight, frame_of):
    a, b, c = (frame_of(size, fill) for size, fill in ((1500, b"a"), (1500, b"b"), (3000, b"c")))
    tight.put(a, "bytes 0-1199/1500", a[:1200])
    tight.upload(b)
    tight.put(c, "bytes 0-1499/3000", c[:1500])
    assert {path.stem for path in (tight.root / LOCAL).iterdir()} == {name(a), name(c)}
    tight.put(c, "bytes 1500-2999/3000", c[1500:])
    assert {path.stem for path in (tight.root / LOCAL).iterdir()} == {name(c)}


def test_uploads_under_way_are_not_removed_for_another(tight, frame_of):
    a, b = frame_of(3000, b"a"), frame_of(3000, b"b")
    path = tight.root / LOCAL / f"{name(a)}.3000"
    path.parent.mkdir(parents=True)
    with Stage.open(path) as busy:
        busy.append(a[:2000])
        with pytest.raises(BusyError) as refused:
            tight.upload(b)
        assert refused.value.code == "overloaded"
        assert path.stat().st_size == 2000
    assert tight.upload(b)[0] == 3000


def test_a_set_that_cannot_fit_is_refused_with_the_limit(tight, frame_of):
    tight.upload(frame_of(1000))
    before = tight.files()
    with pytest.raises(PrivacyError) as refused:
        tight.upload(frame_of(3501))
    assert (refused.value.code, refused.value.status) == ("evaluation_keys_too_large", 413)
    assert "3500" in refused.value.message
    assert tight.files() == before


def test_what_nobody_uses_is_removed_and_uploaded_again(home, tmp_path, frame_of):
    limits = KeyLimits(unused_seconds=1000.0)
    gateway = Gateway(home, tmp_path / "keys", limits)
    used, unused, begun = (frame_of(1000, fill) for fill in (b"a", b"b", b"c"))
    for frame, age in ((used, 900), (unused, 1100)):
        gateway.upload(frame)
        aged(gateway, frame, age)
    gateway.put(begun, "bytes 0-499/1000", begun[:500])
    assert set(Gateway(home, tmp_path / "keys", limits).files()) == {name(used), f"{name(begun)}.1000"}
    os.utime(gateway.root / LOCAL / f"{name(begun)}.1000", (time.time() - 25 * 3600,) * 2)
    gateway.keystore.sweep()
    assert set(gateway.files()) == {name(used)}
    with pytest.raises(PrivacyError) as missing:
        gateway.keystore.find(LOCAL, name(unused))
    assert missing.value.code == "evaluation_keys_missing"
    assert gateway.upload(unused)[0] == 1000


def test_an_account_keeps_so_many_files_however_small(gateway, frame_of, monkeypatch):
    monkeypatch.setattr(keystore, "MOST_FILES", 3)
    for fill in b"abcdef":
        gateway.upload(frame_of(200, bytes([fill])))
        time.sleep(0.02)  # their times of change must differ
    assert set(gateway.files()) == {name(frame_of(200, bytes([fill]))) for fill in b"def"}


def test_keys_for_one_model_are_not_another_models(gateway, frame_of):
    frame = frame_of(1000)
    gateway.upload(frame)
    call = exchange().call("PUT", where(name(frame)).replace("tumor-risk", "digits"), Deadline(9), {}, frame)
    with pytest.raises(PrivacyError) as refused:
        gateway.drive(call)
    assert refused.value.code == "keys_for_another_program"
    assert gateway.files() == {name(frame): frame}
