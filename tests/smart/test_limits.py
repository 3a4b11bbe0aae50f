"""Rate limits: what counts as one, and that the counters name nobody."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from smart_auth import limits
from smart_auth.accounts import Throttled
from smart_auth.context import Auth
from smart_auth.limits import Limit, Limits, network
from tests.support.accounts import AuthClock

THREE = Limit("three", 3, 60)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("2001:db8:0:1::9", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_one_origin_is_an_address_or_the_network_of_a_subscriber(address: str, counted: str) -> None:
    assert network(address) == counted


@pytest.mark.both_stores
def test_the_fourth_of_three_waits_for_the_next_window(auth: Auth, clock: AuthClock) -> None:
    clock.now += 60 - clock.now % 60 + 45
    counts = Limits(auth)
    for _ in range(3):
        counts.hit(THREE, "client")
    with pytest.raises(Throttled) as caught:
        counts.hit(THREE, "client")
    assert caught.value.retry_after_s == 15
    assert "15" in str(caught.value)
    counts.hit(THREE, "another")
    clock.advance(15)
    counts.hit(THREE, "client")


def test_limits_do_not_share_counters(auth: Auth) -> None:
    counts = Limits(auth)
    for name in ("three", "other"):
        for _ in range(3):
            counts.hit(Limit(name, 3, 60), "client")


def test_without_an_address_nothing_is_counted(auth: Auth) -> None:
    for _ in range(5):
        Limits(auth).hit_address(THREE, "")


def test_counters_name_nobody(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []
    real = auth.store.hit

    def hit(key: str, window_s: int) -> int:
        keys.append(key)
        return real(key, window_s)

    monkeypatch.setattr(auth.store, "hit", hit)
    Limits(auth).hit(THREE, "+8613800138000")
    Limits(auth).hit_address(THREE, "192.0.2.1")
    assert len(keys) == 2
    assert not any("138" in key or "192" in key for key in keys)


def test_the_documentation_lists_the_limits() -> None:
    text = (Path(__file__).parents[2] / "docs" / "accounts.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([\w-]+)` \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    actual = [one for one in vars(limits).values() if isinstance(one, Limit)]
    assert listed == [(one.name, str(one.count), str(one.window_s)) for one in actual]
