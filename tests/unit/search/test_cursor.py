"""Page tokens. R4 search.html#paging."""

from __future__ import annotations

import base64

import pytest

from fhir_server.errors import BadRequest, Gone
from fhir_server.search import cursor

KEY = bytes(range(32))
PAYLOAD = ["chalmers", 7, None, "Patient/1"]


def test_a_token_opens_with_its_key_and_context() -> None:
    token = cursor.seal(KEY, PAYLOAD, b"search")
    assert cursor.open(KEY, token, b"search") == PAYLOAD
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_a_token_shows_nothing_and_no_two_are_equal() -> None:
    one, two = cursor.seal(KEY, PAYLOAD), cursor.seal(KEY, PAYLOAD)
    assert one != two
    assert b"chalmers" not in base64.urlsafe_b64decode(one + "==")


def test_how_long_a_token_is_does_not_tell_whose_position_it_holds() -> None:
    sizes = {len(cursor.seal(KEY, {"b": [1, "Observation", "x" * size, 1]})) for size in range(1, 65)}
    assert len(sizes) == 1
    long = cursor.seal(KEY, {"p": "x" * 5000})
    assert cursor.open(KEY, long) == {"p": "x" * 5000}


def test_a_token_of_another_store_or_search_is_gone() -> None:
    token = cursor.seal(KEY, PAYLOAD, b"search")
    for key, context in ((bytes(32), b"search"), (KEY, b"other")):
        with pytest.raises(Gone):
            cursor.open(key, token, context)


def test_a_token_that_was_changed_is_gone() -> None:
    token = cursor.seal(KEY, PAYLOAD)
    for at in (20, 40, len(token) - 2):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        with pytest.raises(Gone):
            cursor.open(KEY, changed)


def test_a_token_expires() -> None:
    token = cursor.seal(KEY, PAYLOAD, now_s=1000.0)
    assert cursor.open(KEY, token, now_s=1000.0 + cursor.LIFETIME_S) == PAYLOAD
    with pytest.raises(Gone):
        cursor.open(KEY, token, now_s=1002.0 + cursor.LIFETIME_S)


@pytest.mark.parametrize("token", ["", "x", "not a token", "é", "AAAA", "A" * 500, "%%%", "a+b/"])
def test_garbage_is_400(token: str) -> None:
    with pytest.raises(BadRequest):
        cursor.open(KEY, token)


def test_digests_differ_by_what_was_asked() -> None:
    assert cursor.digest("Patient", [("name", "a")]) == cursor.digest("Patient", [("name", "a")])
    assert cursor.digest("Patient", [("name", "a")]) != cursor.digest("Patient", [("name", "b")])
