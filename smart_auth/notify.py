"""Ways to send messages to people: print them, show them on a page, mail them, or text them.

What goes wrong while sending is logged without the address and the text, and nobody who asked learns of it: whether
a message could be sent would tell whether there is somebody.
"""

from __future__ import annotations

import importlib
import ipaddress
import logging
import os
import queue
import secrets
import smtplib
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any, Final, Protocol, TextIO
from urllib.parse import unquote, urlsplit

import httpx

from smart_auth.context import Notifier, Vault, now
from smart_auth.records import Message
from smart_auth.store.protocol import AuthStore

log = logging.getLogger(__name__)

MESSAGE_PURPOSE: Final = "message"
KEEP_S: Final = 86_400
"""How long the outbox keeps a message."""
TIMEOUT_S: Final = 10.0
WAITING: Final = 1000
"""Messages that may wait to be sent; more are dropped, and logged."""


class UnusableNotifier(Exception):
    """What was configured cannot send; for operators."""


class Console:
    """Prints messages, with the codes in them: for development only."""

    def __init__(self, *, production: bool, stream: TextIO | None = None) -> None:
        if production:
            raise UnusableNotifier("In production messages are not printed: they hold codes.")
        self._stream = stream

    def send(self, channel: str, to: str, subject: str, text: str) -> None:
        """See context.Notifier."""
        print(f"[{channel}] {to}: {subject}\n    {text}", file=self._stream or sys.stderr, flush=True)


class Outbox:
    """Keeps messages, sealed, for the outbox page: for development only."""

    def __init__(
        self, store: AuthStore, vault: Vault, *, production: bool, clock: Callable[[], int] = now, keep_s: int = KEEP_S
    ) -> None:
        if production:
            raise UnusableNotifier("In production there is no outbox page.")
        self._store = store
        self._vault = vault
        self._clock = clock
        self._keep_s = keep_s

    def send(self, channel: str, to: str, subject: str, text: str) -> None:
        """See context.Notifier."""
        moment = self._clock()
        self._store.insert(
            Message(
                id=secrets.token_hex(12),
                created_at=moment,
                expires_at=moment + self._keep_s,
                channel=channel,
                to=self._vault.seal(to, MESSAGE_PURPOSE),
                subject=subject,
                text=self._vault.seal(text, MESSAGE_PURPOSE),
            )
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """A message of the outbox in the clear."""

    id: str
    at: int
    channel: str
    to: str
    subject: str
    text: str


def read_outbox(store: AuthStore, vault: Vault, limit: int = 100) -> list[Shown]:
    """The newest messages of the outbox, newest first. One that was sealed with a key that is gone is left out."""
    messages, after = [], ""
    while page := store.page(Message, after=after):
        messages += page
        after = page[-1].id
    shown = []
    for one in sorted(messages, key=lambda message: (message.created_at, message.id), reverse=True)[:limit]:
        try:
            to, text = vault.unseal(one.to, MESSAGE_PURPOSE), vault.unseal(one.text, MESSAGE_PURPOSE)
        except ValueError:
            continue
        shown.append(Shown(one.id, one.created_at, one.channel, to, one.subject, text))
    return shown


class Smtp:
    """Mails messages of the channel "email" through a mail server.

    `url`: ``smtp://user:password@host:587`` (STARTTLS, without which only a server on this machine is spoken to) or
    ``smtps://...:465`` (TLS from the first byte). Raises: UnusableNotifier.
    """

    def __init__(
        self, url: str, sender: str, *, context: ssl.SSLContext | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise UnusableNotifier("The URL of the mail server is malformed.") from None
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise UnusableNotifier("The mail server is smtp://host or smtps://host.")
        if "@" not in sender or any(char in sender for char in "\r\n"):
            raise UnusableNotifier("Mails need a sender address.")
        self._direct = parts.scheme == "smtps"
        self._host = parts.hostname
        self._port = port or (465 if self._direct else 587)
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password or "")
        self._sender = sender
        self._context = context
        self._timeout_s = timeout_s

    def send(self, channel: str, to: str, subject: str, text: str) -> None:
        """See context.Notifier. Raises OSError and smtplib.SMTPException, which `Channels` keeps to itself."""
        if channel != "email":
            return
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._sender, to, subject
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834 section 5
        message.set_content(text)
        context = self._context or ssl.create_default_context()
        if self._direct:
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout_s, context=context)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=self._timeout_s)
        with server:
            if not self._direct:
                server.ehlo()
                if server.has_extn("starttls"):
                    server.starttls(context=context)
                elif not _is_loopback(self._host):
                    raise smtplib.SMTPNotSupportedError("The mail server offers no TLS.")
            if self._user is not None:
                server.login(self._user, self._password)
            server.send_message(message)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SmsAdapter(Protocol):
    """What a text message service needs to be used here: named in the settings as ``module:attribute``, where the
    attribute is called without arguments and returns one.
    """

    def send(self, number: str, text: str) -> None:
        """Sends `text` to an E.164 number. May raise anything."""


class HttpSms:
    """An adapter for services that take one JSON request per message: ``{"to": number, "text": text}``.

    An example to copy for a service that wants other fields.
    """

    def __init__(self, url: str, token: str, *, client: httpx.Client | None = None) -> None:
        self._url = url
        self._client = client or httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)
        self._headers = {"Authorization": f"Bearer {token}"}

    def send(self, number: str, text: str) -> None:
        """See SmsAdapter. Raises httpx.HTTPError."""
        answer = self._client.post(self._url, json={"to": number, "text": text}, headers=self._headers)
        answer.raise_for_status()


def http_sms() -> HttpSms:
    """An HttpSms from the environment: ``SMS_URL`` and ``SMS_TOKEN``. Raises: UnusableNotifier."""
    url, token = os.environ.get("SMS_URL", ""), os.environ.get("SMS_TOKEN", "")
    if not url.startswith("https://") or not token:
        raise UnusableNotifier("smart_auth.notify:http_sms needs SMS_URL (https) and SMS_TOKEN.")
    return HttpSms(url, token)


def load_sms(name: str) -> SmsAdapter:
    """The adapter of a ``module:attribute`` name. Raises: UnusableNotifier."""
    module, _, attribute = name.partition(":")
    try:
        make: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        raise UnusableNotifier(f"The SMS adapter {name} cannot be imported; name it as module:attribute.") from None
    adapter: SmsAdapter = make()
    return adapter


class Sms:
    """Texts messages of the channel "sms" through an adapter."""

    def __init__(self, adapter: SmsAdapter) -> None:
        self._adapter = adapter

    def send(self, channel: str, to: str, subject: str, text: str) -> None:
        """See context.Notifier. Raises what the adapter raises, which `Channels` keeps to itself."""
        if channel == "sms":
            self._adapter.send(to, text)


class Channels:
    """Several notifiers as one; a failure of one neither stops the others nor reaches the caller."""

    def __init__(self, notifiers: Sequence[Notifier]) -> None:
        self._notifiers = tuple(notifiers)

    def send(self, channel: str, to: str, subject: str, text: str) -> None:
        """See context.Notifier."""
        for notifier in self._notifiers:
            try:
                notifier.send(channel, to, subject, text)
            except Exception as error:
                # The text of the error may repeat the address.
                log.error("A message by %s could not be sent (%s).", channel, type(error).__name__)


class Background:
    """Sends in a thread of its own, so that an answer takes as long whether there is somebody to send to or not.

    The thread starts at the first message, in a forked process anew.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = Channels([notifier])
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._waiting: queue.Queue[tuple[str, str, str, str] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None

    def send(self, channel: str, to: str, subject: str, text: str) -> None:
        """See context.Notifier."""
        if self._pid != os.getpid():
            self._start()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="notify", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait((channel, to, subject, text))
        except queue.Full:
            log.error("A message by %s was dropped: %s are waiting.", channel, WAITING)

    def _run(self) -> None:
        while (message := self._waiting.get()) is not None:
            self._notifier.send(*message)

    def close(self, timeout_s: float = TIMEOUT_S) -> None:
        """Sends what is waiting, as far as the time allows."""
        if self._thread is not None and self._pid == os.getpid():
            try:
                self._waiting.put(None, timeout=timeout_s)
            except queue.Full:
                return
            self._thread.join(timeout_s)
            self._thread = None
