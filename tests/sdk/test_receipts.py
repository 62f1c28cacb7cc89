"""Receipts one by one, against vectors that other code than ours wrote (json, hashlib and cryptography)."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from cloakwork.errors import ReceiptError
from cloakwork.jwks import decode64, encode64, jwks_of, keys_of, thumbprint
from cloakwork.price import UNITS, Price
from cloakwork.receipts import GENESIS, Receipt, compact, digest, message, parse, recount, verify

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "receipts.json").read_text("utf-8"))
KEYS = keys_of(VECTORS["jwks"])
CHAIN = VECTORS["chain"]
ENCRYPTED = CHAIN[2]

# RFC 8032, section 7.1, tests 1 to 3: seed, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(RFC_8032[0][0]))
KEY = thumbprint(PRIVATE.public_key().public_bytes_raw())

DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
NAMES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40)
NUMBERS = st.integers(0, 2**53 - 1)
QUANTITIES = st.dictionaries(st.sampled_from(sorted(UNITS)) | NAMES, st.integers(0, 2**24))
PRICES = st.dictionaries(st.sampled_from(sorted(UNITS)), st.integers(0, 2**30)).map(lambda it: Price(1, it))


@st.composite
def receipts(draw):
    """Any receipt that could be."""
    quantities, price = draw(QUANTITIES), draw(PRICES)
    return Receipt(
        account=draw(NAMES),
        sequence=draw(NUMBERS) or 1,
        previous=draw(DIGESTS),
        run=draw(NAMES),
        at=draw(NUMBERS),
        model=draw(NAMES),
        model_digest=draw(DIGESTS),
        mode=draw(NAMES),
        outcome=draw(NAMES),
        request=draw(DIGESTS),
        answer=draw(DIGESTS),
        quantities=quantities,
        price=draw(NUMBERS),
        lines=price.lines(quantities),
        amount=price.amount(quantities),
        key=KEY,
    )


def sign(receipt):
    return compact(receipt.canonical, PRIVATE.sign(message(receipt.canonical)))


def refused(check, *arguments):
    """The code and words of a refusal."""
    with pytest.raises(ReceiptError) as failure:
        check(*arguments)
    return failure.value.code, failure.value.message


@pytest.mark.parametrize(("seed", "public", "text", "signature"), RFC_8032)
def test_the_library_signs_and_verifies_as_rfc_8032(seed, public, text, signature):
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    assert private.public_key().public_bytes_raw().hex() == public
    assert private.sign(bytes.fromhex(text)).hex() == signature
    known = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    known.verify(bytes.fromhex(signature), bytes.fromhex(text))
    with pytest.raises(InvalidSignature):
        known.verify(bytes.fromhex(signature), bytes.fromhex(text) + b"\0")


def test_thumbprints_are_those_of_rfc_8037():
    public = decode64("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")  # appendix A.2
    assert thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"  # appendix A.3


def test_the_document_of_keys_is_the_committed_one_and_is_read_back():
    assert jwks_of(KEYS.values()) == VECTORS["jwks"]
    assert keys_of(jwks_of(KEYS.values())) == KEYS


def test_keys_of_other_kinds_are_passed_over():
    others = [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}, {"kty": "OKP", "crv": "X25519", "x": "AA"}]
    assert keys_of({"keys": [*others, *VECTORS["jwks"]["keys"]]}) == KEYS


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"keys": 1},
        {"keys": []},
        {"keys": [{}]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519"}]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA=="}]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": 7}]},
    ],
)
def test_what_is_no_document_of_keys_is_refused(document):
    assert refused(keys_of, document)[0] == "receipt_keys_invalid"


@pytest.mark.parametrize("vector", CHAIN)
def test_vectors_verify_and_are_made_again_byte_for_byte(vector):
    receipt = verify(vector["receipt"], KEYS)
    assert receipt.canonical.decode() == vector["canonical"]
    assert receipt.hash == vector["hash"]
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["seed"]))
    assert compact(receipt.canonical, private.sign(message(receipt.canonical))) == vector["receipt"]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["why"])
def test_vectors_that_prove_nothing_are_refused(vector):
    assert refused(verify, vector["receipt"], KEYS)[0] == "receipt_invalid"


def test_every_single_bit_counts():
    text = CHAIN[0]["receipt"].encode()
    for place in range(len(text)):
        for bit in range(8):
            flipped = bytearray(text)
            flipped[place] ^= 1 << bit
            with pytest.raises(ReceiptError):
                verify(flipped.decode("latin-1"), KEYS)


@given(receipts())
def test_any_receipt_is_read_back_and_verified(receipt):
    text = sign(receipt)
    assert parse(text) == receipt
    assert verify(text, {KEY: PRIVATE.public_key().public_bytes_raw()}) == receipt
    members = json.loads(receipt.canonical)
    assert json.dumps(members, sort_keys=True, separators=(",", ":")).encode() == receipt.canonical


@given(receipts(), st.data())
def test_any_bit_of_any_receipt_counts(receipt, data):
    text = bytearray(sign(receipt).encode())
    text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    refused(verify, text.decode("latin-1"), {KEY: PRIVATE.public_key().public_bytes_raw()})


@given(receipts(), st.data())
def test_a_receipt_whose_sums_are_wrong_cannot_be_made(receipt, data):
    wrong = data.draw(NUMBERS.filter(lambda amount: amount != receipt.amount))
    assert refused(lambda: replace(receipt, amount=wrong))[0] == "receipt_invalid"
    if receipt.lines:
        line, *rest = receipt.lines
        less = replace(line, amount=line.amount + 1)
        again = receipt.amount + 1
        assert refused(lambda: replace(receipt, lines=(less, *rest), amount=again))[0] == "receipt_invalid"


def test_an_unknown_key_is_told_from_a_forgery():
    others = {name: public for name, public in KEYS.items() if name != parse(CHAIN[0]["receipt"]).key}
    code, words = refused(verify, CHAIN[0]["receipt"], others)
    assert code == "receipt_key_unknown"
    assert parse(CHAIN[0]["receipt"]).key in words


def test_a_key_under_the_name_of_another_verifies_nothing():
    first, second = KEYS
    swapped = {first: KEYS[second], second: KEYS[first]}
    assert refused(verify, CHAIN[0]["receipt"], swapped)[0] == "receipt_invalid"


@pytest.mark.parametrize("text", [None, 7, ["x"], "A" * 100_000 + ".A"])
def test_what_is_no_text_or_longer_than_any_is_refused(text):
    assert refused(parse, text)[0] == "receipt_invalid"


def bodies(vector):
    return tuple(bytes.fromhex(vector[name]) for name in ("salt", "request", "answer"))


@pytest.mark.parametrize("vector", CHAIN)
def test_vectors_are_recounted_from_their_bodies(vector):
    receipt = verify(vector["receipt"], KEYS)
    _, request, answer = bodies(vector)
    counted = recount(receipt, *bodies(vector))
    assert counted["byte"] == len(request) + len(answer)
    assert counted["call"] == 1


def test_records_and_ciphertexts_of_frames_are_counted():
    counted = recount(parse(ENCRYPTED["receipt"]), *bodies(ENCRYPTED))
    assert (counted["record"], counted["ciphertext"]) == (3, 6)


@pytest.mark.parametrize("place", range(3))
def test_any_byte_of_salt_request_or_answer_counts(place):
    given_bodies = list(bodies(CHAIN[0]))
    for at in range(len(given_bodies[place])):
        changed = bytearray(given_bodies[place])
        changed[at] ^= 1
        other = [*given_bodies[:place], bytes(changed), *given_bodies[place + 1 :]]
        assert refused(recount, parse(CHAIN[0]["receipt"]), *other)[0] == "receipt_invalid"


@pytest.mark.parametrize("unit", ["call", "byte", "record", "ciphertext"])
def test_a_quantity_that_the_bodies_do_not_show_is_named(unit):
    receipt = parse(ENCRYPTED["receipt"])
    padded = replace(
        receipt, lines=(), amount=0, quantities=receipt.quantities | {unit: receipt.quantities[unit] + 1}
    )
    code, words = refused(recount, padded, *bodies(ENCRYPTED))
    assert code == "receipt_invalid"
    assert f" of {unit} " in words


def test_an_encrypted_call_whose_bodies_are_no_frames_is_refused():
    salt, request, answer = bodies(CHAIN[0])
    sealed = replace(parse(CHAIN[0]["receipt"]), mode="encrypted")
    assert refused(recount, sealed, salt, request, answer)[0] == "receipt_invalid"


@given(st.binary(max_size=64), st.binary(min_size=16, max_size=16))
def test_digests_keep_request_and_answer_apart(body, salt):
    assert digest(salt, "request", body) != digest(salt, "answer", body)


@given(st.binary(max_size=99))
def test_base64url_is_read_back(data):
    assert decode64(encode64(data)) == data


def test_the_first_receipt_of_all_follows_nothing():
    assert parse(CHAIN[0]["receipt"]).previous == GENESIS


def test_verifying_alone_needs_the_library():
    code = "import sys; from cloakwork.receipts import parse, verify; from cloakwork import chain; "
    code += "print({'cryptography', 'httpx', 'numpy'} & set(sys.modules)); "
    code += "sys.modules['cryptography'] = None; text = sys.stdin.read(); key = parse(text).key\n"
    code += "try: verify(text, {key: bytes(32)})\nexcept Exception as failure: print(failure)"
    done = subprocess.run(
        [sys.executable, "-c", code], input=CHAIN[0]["receipt"], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("set()\n")
    assert "pip install 'cloakwork[receipts]'" in done.stdout
    assert "[extra_missing]" in done.stdout
