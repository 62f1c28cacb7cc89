"""Frames: a pinned vector, round trips, and every kind of damage."""

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakwork_privacy.ckks.frames import Frame, Kind, decode, encode, fingerprint, peek
from cloakwork_privacy.errors import PrivacyError

FRAME = Frame(Kind.REQUEST, bytes(range(32)), bytes(range(32, 64)), (b"one", b"", b"three"), 7)
digests = st.binary(min_size=32, max_size=32)
frames = st.builds(
    Frame,
    st.sampled_from([Kind.REQUEST, Kind.ANSWER]),
    digests,
    digests,
    st.lists(st.binary(max_size=64), max_size=8).map(tuple),
    st.integers(0, 8),
) | st.builds(
    Frame,
    st.sampled_from([Kind.EVALUATION_KEYS, Kind.SECRET_KEY]),
    digests,
    digests,
    st.lists(st.binary(max_size=64), max_size=8).map(tuple),
)


def read(data, kind=Kind.REQUEST, most_parts=8, most_bytes=64):
    return decode(data, kind, most_parts=most_parts, most_bytes=most_bytes)


def resigned(body):
    return body + hashlib.sha256(body).digest()


def test_the_layout_is_the_documented_one():
    label = b"CWHE\x02\x01\x03\x00\x07\x00\x00\x00" + bytes(range(64))
    sizes = bytes([3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0])
    assert encode(FRAME) == resigned(label + sizes + b"onethree")
    assert (
        fingerprint(encode(FRAME)).hex() == "129275a97d51c9fe6cc6009dc5c3e1d1ba621dee5e8ed0dfb25c341eae5ec2aa"
    )


@given(frames)
def test_what_is_encoded_decodes(frame):
    data = encode(frame)
    assert read(data, frame.kind) == frame
    assert read(data, frame.kind).fingerprint == fingerprint(data)


@given(frames)
def test_a_label_reads_without_its_parts(frame):
    label = peek(encode(frame)[:76])
    assert (label.kind, label.program, label.keys) == (frame.kind, frame.program, frame.keys)
    assert (label.count, label.records) == (len(frame.parts), frame.records)


@given(frames, st.data())
def test_every_changed_byte_is_found(frame, data):
    damaged = bytearray(encode(frame))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PrivacyError):
        read(bytes(damaged), frame.kind)


@given(frames, st.data())
def test_every_cut_is_found(frame, data):
    whole = encode(frame)
    with pytest.raises(PrivacyError) as caught:
        read(whole[: data.draw(st.integers(0, len(whole) - 1))], frame.kind)
    assert caught.value.code == "frame_invalid"


@given(st.binary(max_size=200))
def test_noise_is_refused(data):
    with pytest.raises(PrivacyError):
        read(data)


@given(frames, st.data())
def test_a_resigned_forgery_is_still_a_frame_or_refused(frame, data):
    body = bytearray(encode(frame)[:-32])
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    try:
        forged = read(resigned(bytes(body)), frame.kind)
    except PrivacyError:
        return
    assert len(forged.parts) <= 8
    assert all(len(part) <= 64 for part in forged.parts)


def test_bytes_after_the_end_are_refused():
    with pytest.raises(PrivacyError, match="size"):
        read(encode(FRAME) + b"\0")


def test_a_secret_key_is_refused_by_name():
    with pytest.raises(PrivacyError) as caught:
        read(encode(Frame(Kind.SECRET_KEY, bytes(32), bytes(32), (b"x",))))
    assert caught.value.code == "secret_key_refused"


def test_another_kind_is_refused():
    with pytest.raises(PrivacyError, match="ANSWER"):
        read(encode(FRAME), Kind.ANSWER)


@pytest.mark.parametrize("kind", Kind)
def test_parts_are_counted(kind):
    with pytest.raises(PrivacyError) as caught:
        read(encode(Frame(kind, bytes(32), bytes(32), (b"",) * 3)), kind, most_parts=2)
    assert caught.value.code == "frame_invalid"


@pytest.mark.parametrize("kind", [Kind.REQUEST, Kind.ANSWER])
def test_records_are_counted(kind):
    data = encode(Frame(kind, bytes(32), bytes(32), (b"",) * 2, 3))
    for most, code in ((2, "too_many_records"), (3, None), (None, "too_many_records")):
        if code is None:
            limits = {"most_parts": 2, "most_bytes": 9, "most_records": most}
            assert decode(data, kind, **limits).records == 3
            continue
        with pytest.raises(PrivacyError) as caught:
            decode(data, kind, most_parts=2, most_bytes=9, most_records=most)
        assert caught.value.code == code


@pytest.mark.parametrize("kind", [Kind.EVALUATION_KEYS, Kind.SECRET_KEY])
def test_keys_hold_no_records(kind):
    with pytest.raises(PrivacyError) as caught:
        read(encode(Frame(kind, bytes(32), bytes(32), (b"",), 1)), kind)
    assert caught.value.code == "frame_invalid"


def test_parts_are_bounded():
    with pytest.raises(PrivacyError, match="larger"):
        read(encode(FRAME), most_bytes=4)


def test_a_caller_gets_digests_right():
    with pytest.raises(ValueError, match="32 bytes"):
        encode(Frame(Kind.REQUEST, b"", bytes(32), ()))
    with pytest.raises(ValueError, match="65535"):
        encode(Frame(Kind.REQUEST, bytes(32), bytes(32), (b"",) * 65536))
    for records in (-1, 1 << 32):
        with pytest.raises(ValueError, match="records"):
            encode(Frame(Kind.REQUEST, bytes(32), bytes(32), (), records))


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("errors", ["numpy", "tenseal", "zstandard"]),
        ("ckks.frames", ["numpy", "tenseal", "zstandard"]),
        ("compiler.program", ["tenseal", "safetensors"]),
        ("compiler.signature", ["tenseal", "safetensors"]),
        ("evaluate", ["cloakwork_privacy.ckks.secret", "torch"]),
    ],
)
def test_what_a_module_does_not_import(module, absent):
    code = f"import sys, cloakwork_privacy.{module}; sys.exit(any(name in sys.modules for name in {absent}))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], check=False, env={"PYTHONPATH": ":".join(sys.path)}
        ).returncode
        == 0
    )
