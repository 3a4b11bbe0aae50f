"""Rate limits by name, counted in the store so that they hold across workers.

What is counted is kept as a keyed hash: neither addresses nor phone numbers are in the counters.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from smart_auth.problems import Throttled

if TYPE_CHECKING:
    from smart_auth.context import Auth


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` events in each window of `window_s` seconds."""

    name: str
    count: int
    window_s: int


# Many people may come by one address (a hospital's own, a mobile network's): what protects a single account is the
# limit per account or target.
LOGIN_PER_ADDRESS: Final = Limit("login-address", 200, 300)
LOGIN_PER_ACCOUNT: Final = Limit("login-account", 20, 60)
CODE_PER_TARGET: Final = Limit("code-target", 5, 3600)
CODE_PER_ADDRESS: Final = Limit("code-address", 60, 3600)
CODE_TRY_PER_ADDRESS: Final = Limit("code-try-address", 60, 300)
SECOND_FACTOR_PER_ACCOUNT: Final = Limit("second-factor-account", 10, 300)
SECOND_FACTOR_PER_DAY: Final = Limit("second-factor-day", 100, 86_400)
"""Three codes in a million are right at any time: a day of guessing finds one with a probability of 1 in 3000."""
SECOND_FACTOR_PER_ADDRESS: Final = Limit("second-factor-address", 100, 300)
TOKEN_PER_CLIENT: Final = Limit("token-client", 600, 60)
TOKEN_FAILURE_PER_ADDRESS: Final = Limit("token-failure-address", 60, 60)
REGISTRATION_PER_ADDRESS: Final = Limit("registration-address", 30, 3600)


class Limits:
    """Counts events against limits."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    def hit(self, limit: Limit, key: str) -> None:
        """Counts one event. Raises: Throttled when it is one too many."""
        auth = self._auth
        count = auth.store.hit(f"{limit.name}|{auth.vault.digest(key, limit.name)}", limit.window_s)
        if count > limit.count:
            raise Throttled(limit.window_s - auth.clock() % limit.window_s)

    def hit_address(self, limit: Limit, address: str) -> None:
        """Counts one event of a network address; without one there is nothing to count. Raises: Throttled."""
        if address:
            self.hit(limit, network(address))


def network(address: str) -> str:
    """What counts as one origin: an IPv4 address, or the /64 that one IPv6 subscriber has."""
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
