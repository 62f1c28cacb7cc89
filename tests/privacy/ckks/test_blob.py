import os
import stat
import struct
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tenseal.sealapi as seal
import zstandard

from cloakwork_privacy.ckks import blob, layout
from cloakwork_privacy.ckks.sealed import Sealed
from cloakwork_privacy.errors import PrivacyError


def bomb(size):
    """A SEAL stream whose body expands to `size` zeros."""
    body = zstandard.ZstdCompressor().compress(bytes(size))
    return struct.pack("<HBBBBHQ", 0xA15E, 16, 4, 1, 2, 0, 16 + len(body)) + body


@pytest.mark.parametrize("memory", [True, False])
def test_objects_survive_without_memory_files_too(ring, keys, memory, monkeypatch):
    if not memory:
        monkeypatch.delattr(os, "memfd_create")
    kind = layout.secret_key(ring)
    body = blob.dump(keys._secret, kind.body_bytes)
    copy = seal.SecretKey()
    blob.load(copy, ring.seal, np.frombuffer(body, np.uint8))
    assert blob.dump(copy, kind.body_bytes) == body


class Spy:
    """Stands for a SEAL object, and looks at the file that it is to be saved to."""

    def save(self, path):
        self.path = Path(path)
        self.mode = stat.S_IMODE(self.path.stat().st_mode)
        self.path.write_bytes(b"secret")


@pytest.mark.parametrize("shared", [True, False])
def test_without_memory_files_the_file_is_private_and_goes(shared, tmp_path, monkeypatch):
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    for folder in (memory, disk) if shared else (disk,):
        folder.mkdir()
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(blob, "_MEMORY", str(memory))
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    spy, loose = Spy(), os.umask(0)
    try:
        assert blob._save(spy) == b"secret"
    finally:
        os.umask(loose)
    assert spy.path.parent == (memory if shared else disk)
    assert spy.mode == 0o600
    assert not spy.path.exists()


def test_an_unknown_layout_of_seal_is_noticed(keys):
    with pytest.raises(RuntimeError, match="unknown layout"):
        blob.dump(keys._secret, 100)


def test_a_secret_key_is_recognised(keys):
    assert blob.looks_like_secret_key(blob._save(keys._secret))


def test_other_things_are_not(ring, keys):
    zero = seal.Encryptor(ring.seal, keys._secret).encrypt_zero_symmetric(ring.key_id)
    assert not blob.looks_like_secret_key(b"")
    assert not blob.looks_like_secret_key(bytes(100))
    assert not blob.looks_like_secret_key(blob._save(zero))
    assert not blob.looks_like_secret_key(bomb(1000)[:18])
    assert not blob.looks_like_secret_key(bomb(1000)[:16] + b"no zstd")


def test_a_bomb_costs_no_memory():
    data = bomb(1 << 28)
    tracemalloc.start()
    assert not blob.looks_like_secret_key(data)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_bomb_is_no_ciphertext(ring):
    with pytest.raises(PrivacyError) as caught:
        Sealed(ring, 2.0**20).unpack(bomb(1 << 24))
    assert caught.value.code == "ciphertext_invalid"
