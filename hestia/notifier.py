"""How messages to people are sent, by the settings: mail server, text message adapter, in development the outbox."""

from __future__ import annotations

from hestia.settings import Settings, SettingsError
from smart_auth.context import Notifier, Vault
from smart_auth.notify import Background, Channels, Console, Outbox, Sms, Smtp, UnusableNotifier, load_sms
from smart_auth.store.protocol import AuthStore


def notifier(settings: Settings, store: AuthStore, vault: Vault) -> Notifier:
    """Sends what has a way to be sent; in development everything is shown in the outbox and on the console too.

    Raises: SettingsError for a mail server or an adapter that cannot be used.
    """
    ways: list[Notifier] = []
    try:
        if settings.smtp:
            # A mail server takes its time, which must not tell whether there was somebody to write to.
            ways.append(Background(Smtp(settings.smtp, settings.mail_from)))
        if settings.sms:
            ways.append(Background(Sms(load_sms(settings.sms))))
    except UnusableNotifier as error:
        raise SettingsError(f"HESTIA_SMTP, HESTIA_MAIL_FROM or HESTIA_SMS: {error}") from None
    if not settings.production:
        ways += [Outbox(store, vault, production=False), Console(production=False)]
    return Channels(ways)
