import pytest

from cloakwork.config import resolve
from cloakwork.errors import ConfigError, InputError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in ("BASE_URL", "API_KEY", "PROFILE"):
        monkeypatch.delenv(f"CLOAKWORK_{name}", raising=False)
    monkeypatch.setenv("CLOAKWORK_CONFIG", str(tmp_path))
    return tmp_path


def test_arguments_beat_environment_beats_profile(folder, monkeypatch):
    (folder / "config.toml").write_text('base_url = "http://profile"\napi_key = "p"\n')
    assert (resolve().base_url, resolve().api_key) == ("http://profile", "p")
    monkeypatch.setenv("CLOAKWORK_BASE_URL", "http://environment/")
    monkeypatch.setenv("CLOAKWORK_API_KEY", "e")
    assert (resolve().base_url, resolve().api_key) == ("http://environment", "e")
    assert (resolve("https://argument", "a").base_url, resolve(api_key="a").api_key) == (
        "https://argument",
        "a",
    )


def test_another_profile_can_be_named(folder, monkeypatch):
    (folder / "config.toml").write_text('[work]\nbase_url = "local:"\n')
    monkeypatch.setenv("CLOAKWORK_PROFILE", "work")
    assert resolve().base_url == "local:"


@pytest.mark.parametrize("address", ["", "ftp://host", "host:80", "http://", "http://host:port"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ConfigError) as refused:
        resolve(address)
    assert refused.value.code == "no_address"


def test_a_broken_profile_names_the_file(folder):
    (folder / "config.toml").write_text("[default\n")
    with pytest.raises(ConfigError, match=r"config\.toml"):
        resolve()


def test_the_key_does_not_show():
    assert "hush" not in repr(resolve("http://host", "hush"))


@pytest.mark.parametrize("epsilon", [0, -1, float("nan"), float("inf")])
def test_a_cap_on_epsilon_that_is_none_is_refused(epsilon):
    with pytest.raises(InputError):
        resolve("http://host", max_epsilon=epsilon)


def test_a_profile_that_is_not_text_is_refused(folder):
    (folder / "config.toml").write_text("base_url = 5\n")
    with pytest.raises(ConfigError, match="strings"):
        resolve()
