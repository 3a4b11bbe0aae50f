"""Accounts, clients and tokens from the command line: what an operator needs when nobody can log in yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from hestia import demo_access
from hestia.composition import make_auth, opened
from hestia.settings import Settings
from smart_auth import scopes
from smart_auth.clients import Clients as clients_of
from smart_auth.context import Auth
from smart_auth.records import Account, Client, Record

T = TypeVar("T")
R = TypeVar("R", bound=Record)

CLI_CLIENT: Final = "hestia-cli"
"""The client of tokens that the command line makes."""

_PATIENT: Final = "launch/patient openid fhirUser patient/*.cruds"
_STAFF: Final = "openid fhirUser user/*.cruds"


def token(
    settings: Settings, name: str, role: str | None, patient: str | None, scope: str | None
) -> tuple[str, list[str]]:
    """An access token of a demo account or a demo back-end client, and remarks for the person who asked.

    Raises: click.ClickException for any other account: a token is what somebody gets by logging in.
    """
    return _with_auth(settings, lambda auth: _token(auth, name, role, patient, scope))


def _token(auth: Auth, name: str, role: str | None, patient: str | None, scope: str | None) -> tuple[str, list[str]]:
    found = demo_access.known(auth)
    if found is None:
        raise click.ClickException("There is no demo hospital in this store; `hestia serve` makes it (HESTIA_DEMO).")
    client = auth.store.get(Client, name)
    if client is not None and client.demo and client.type == "backend":
        made = auth.tokens.issue_for(None, "system", client, scope or client.scope, None)
        return made, []
    accounts = [one for one in auth.store.find(Account, username=name.casefold()) if one.demo]
    if not accounts:
        people = ", ".join(one["username"] for one in found["accounts"])
        back_ends = ", ".join(one["client_id"] for one in found["clients"] if one["type"] == "backend")
        raise click.ClickException(f"There is no demo account of that name. People: {people}. Back ends: {back_ends}.")
    account = accounts[0]
    roles = [link.role for link in account.roles]
    chosen = role or roles[0]
    if chosen not in roles:
        raise click.ClickException(f"{name} has the roles {', '.join(roles)}.")
    remarks: list[str] = []
    if chosen == "patient":
        treated = auth.directory.treated(account.person, account.roles[0].fhir_user)
        ids = [one.patient for one in treated]
        patient = patient or (ids[0] if ids else None)
        if patient not in ids:
            raise click.ClickException(f"{name} may act for {', '.join(ids) or 'nobody'}.")
        if len(ids) > 1:
            remarks.append(f"Acting for {patient}; --patient chooses among {', '.join(ids)}.")
    wanted = scope or (_PATIENT if chosen == "patient" else _STAFF)
    if not scopes.parse(wanted):
        raise click.ClickException("None of these scopes is one.")
    client = auth.store.get(Client, CLI_CLIENT) or Client(
        id=CLI_CLIENT, name="Command line", type="public", scope="", grant_types=(), trusted=True, demo=True
    )
    auth.store.put(client)
    return auth.tokens.issue_for(account, chosen, client, wanted, patient), remarks


def clients(settings: Settings, action: str, client_id: str | None) -> list[str]:
    """Lists the registered clients, or approves or disables one; what to print. Raises click.ClickException."""

    def work(auth: Auth) -> list[str]:
        if action == "list":
            everything = sorted(_all(auth, Client), key=lambda one: (one.status != "pending", one.name))
            return [f"{one.id:<38}{one.status:<10}{one.type:<26}{one.name}" for one in everything]
        found = auth.store.get(Client, client_id) if client_id else None
        if found is None:
            raise click.ClickException("There is no such client; `hestia client list` lists them.")
        status = "active" if action == "approve" else "disabled"
        clients_of(auth).set_status(found.id, status, by="command line")
        return [f"{found.name} ({found.id}) is {status}."]

    return _with_auth(settings, work)


def accounts(settings: Settings, action: str, name: str | None) -> list[str]:
    """Lists the accounts, or resets or unlocks one; what to print. Raises click.ClickException."""

    def work(auth: Auth) -> list[str]:
        if action == "list":
            return [
                f"{one.username or '-':<20}{one.status:<10}{', '.join(link.role for link in one.roles):<30}{one.name}"
                for one in sorted(_all(auth, Account), key=lambda one: one.username or "")
            ]
        found = auth.accounts.by_login(name) if name else None
        if found is None:
            raise click.ClickException("There is no such account; `hestia account list` lists them.")
        if action == "unlock":
            auth.accounts.unlock(found.id, by="command line")
            return [f"{name} is unlocked."]
        password = auth.accounts.give_password(found.id, by="command line")
        return [f"One-time password of {name}: {password}", "It has to be changed at the next login."]

    return _with_auth(settings, work)


def describe_demo(settings: Settings) -> dict[str, Any]:
    """See demo_access.describe. Raises click.ClickException when there is no demo."""
    found = _with_auth(settings, lambda auth: demo_access.describe(auth, settings.data))
    if found is None:
        raise click.ClickException("There is no demo hospital in this store; `hestia serve` makes it (HESTIA_DEMO).")
    return found


def remove_demo(settings: Settings) -> int:
    """Removes demo accounts and clients; returns how many."""
    return _with_auth(settings, demo_access.remove)


def _all(auth: Auth, kind: type[R]) -> list[R]:
    found: list[R] = []
    after = ""
    while page := auth.store.page(kind, after=after):
        found += page
        after = page[-1].id
    return found


def _with_auth(settings: Settings, work: Callable[[Auth], T]) -> T:
    """Runs `work` with the authorization server of an existing store."""
    with opened(settings, must_exist=True) as server:
        # Tokens name the base that the server goes by, whatever this shell's settings say.
        auth = make_auth(dataclasses.replace(settings, base_url=server.settings.base_url), server)
        try:
            return work(auth)
        finally:
            auth.store.close()
