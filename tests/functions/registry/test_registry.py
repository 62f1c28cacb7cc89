import shutil
from dataclasses import replace

import msgspec
import pytest

from cloakwork.cli import main
from cloakwork.errors import CloakworkError
from cloakwork_functions.registry import Artifact, Registry, write_manifest


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of a trained artifact that a test may spoil."""
    copy = tmp_path / "artifact"
    shutil.copytree(trained("tumor-risk")[1], copy)
    return copy


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "registry")


def another(folder, trained, summary):
    card = replace(trained("tumor-risk")[0], summary=summary)
    (folder / "card.json").write_bytes(msgspec.json.encode(card))
    return folder


def refused(work):
    with pytest.raises(CloakworkError) as failure:
        work()
    return failure.value.code


def test_versions_count_up_and_aliases_move(registry, folder, trained):
    first = registry.publish(folder)
    second = registry.publish(another(folder, trained, "second"), "canary")
    assert (first.version, second.version) == (1, 2)
    assert registry.resolve("tumor-risk").version == 1
    assert registry.resolve("tumor-risk@canary").version == 2
    assert registry.resolve("tumor-risk@2").card.summary == "second"
    registry.publish(folder, "prod")
    assert registry.resolve("tumor-risk").version == 2
    assert registry.resolve("tumor-risk@2").aliases == ("canary", "prod")


def test_a_digest_names_a_version(registry, folder):
    info = registry.publish(folder)
    assert registry.resolve(f"tumor-risk@sha256:{info.digest[:8]}") == info


def test_publishing_the_same_bytes_again_is_the_same_version(registry, folder):
    assert registry.publish(folder) == registry.publish(folder)


def test_another_process_sees_what_was_published(registry, folder, trained, tmp_path):
    registry.publish(folder)
    other = Registry(tmp_path / "registry")
    assert other.resolve("tumor-risk").version == 1
    registry.publish(another(folder, trained, "second"))
    assert other.resolve("tumor-risk").version == 2


@pytest.mark.parametrize(
    "ref", ["nothing", "tumor-risk@9", "tumor-risk@0", "tumor-risk@x", "tumor-risk@sha256:", "../x"]
)
def test_what_is_not_there(registry, folder, ref):
    registry.publish(folder)
    assert refused(lambda: registry.resolve(ref)) == "unknown_model"


@pytest.mark.parametrize("alias", ["", "3", "Prod", "a b", "../x"])
def test_what_is_no_alias(registry, folder, alias):
    with pytest.raises(ValueError, match="alias"):
        registry.publish(folder, alias)


def test_a_folder_that_is_no_artifact(registry, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"card\.json"):
        registry.publish(tmp_path / "empty")


def test_every_byte_counts(folder):
    digest = write_manifest(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) >= 10
    for path in files:
        original = path.read_bytes()
        path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        assert refused(lambda: Artifact.open(folder, digest)) == "model_unavailable", path
        path.write_bytes(original)
    assert Artifact.open(folder, digest).card.name == "tumor-risk"


@pytest.mark.parametrize("change", ["added", "removed", "linked"])
def test_no_file_may_be_added_removed_or_replaced_by_a_link(folder, tmp_path, change):
    digest = write_manifest(folder)
    graph = folder / "plaintext" / "model.onnx"
    if change == "added":
        (folder / "plaintext" / "more.onnx").write_bytes(b"")
    else:
        graph.rename(tmp_path / "elsewhere")
    if change == "linked":
        graph.symlink_to(tmp_path / "elsewhere")
    assert refused(lambda: Artifact.open(folder, digest)) == "model_unavailable"


def test_a_tampered_model_leaves_the_others_listed(registry, folder, trained, caplog):
    registry.publish(folder)
    registry.publish(trained("digits")[1])
    digest = registry.resolve("tumor-risk").digest
    (registry._artifacts / digest / "card.json").write_bytes(b"{}")
    fresh = Registry(registry._models.parent)
    assert [info.model for info in fresh.list()] == ["digits"]
    assert "tumor-risk is not served" in caplog.text


def test_publishing_the_same_bytes_again_mends_a_damaged_artifact(registry, folder):
    info = registry.publish(folder)
    graph = registry._artifacts / info.digest / "plaintext" / "model.onnx"
    graph.write_bytes(b"damaged")
    assert Registry(registry._models.parent).publish(folder) == info
    assert Artifact.open(registry._artifacts / info.digest, info.digest).digest == info.digest


@pytest.mark.parametrize("name", ["plaintext/model.onnx", "encrypted/latency/circuit.json", "card.json"])
def test_the_publish_command_refuses_what_no_worker_could_run(folder, tmp_path, monkeypatch, capsys, name):
    monkeypatch.setenv("CLOAKWORK_HOME", str(tmp_path / "home"))
    (folder / name).write_bytes(b"garbage")
    assert main(["publish", str(folder)]) == 1
    assert "Not published" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()
