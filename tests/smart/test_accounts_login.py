"""Logging in: neutral answers, lockout, throttling."""

from __future__ import annotations

import pytest

from smart_auth.context import Auth

PASSWORD = "correct horse battery 9"


@pytest.mark.both_stores
@pytest.mark.parametrize(
    "login", ["wang", " WANG ", "13800138000", "+86 138-0013-8000", "138 0013 8000", "138００138000"]
)
def test_a_user_name_or_phone_number_in_any_writing_logs_in(auth: Auth, login: str) -> None:
    made = auth.accounts.create("王小明", username="Wang", phone="13800138000", password=PASSWORD)
    assert auth.accounts.authenticate(login, PASSWORD, "192.0.2.1").id == made.id
