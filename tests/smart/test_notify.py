"""Sending messages: printed, kept for the outbox, mailed to a real SMTP server, texted to a real HTTP server."""

from __future__ import annotations

import email
import email.policy
import io
import json
import logging
import smtplib
import socketserver
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from smart_auth import notify
from smart_auth.context import Auth, Vault
from smart_auth.store.protocol import AuthStore
from tests.support.accounts import AuthClock, RecordingNotifier
from tests.support.certificate import Certified

NUMBER, MAIL, TEXT = "+8613800138000", "wang@example.org", "验证码 123456，5 分钟内有效。"


class Conversation(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as a client needs."""

    server: MailServer

    def say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self) -> None:
        server = self.server
        if server.direct is not None:
            self.secure(server.direct)
        self.say("220 mail.example ESMTP")
        while line := self.rfile.readline().decode().strip():
            verb = line.split()[0].upper()
            server.lines.append(line)
            if verb == "EHLO":
                if server.starttls is not None and not isinstance(self.connection, ssl.SSLSocket):
                    self.say("250-mail.example\r\n250 STARTTLS")
                else:
                    self.say("250-mail.example\r\n250 AUTH PLAIN")
            elif verb == "STARTTLS" and server.starttls is not None:
                self.say("220 go ahead")
                self.secure(server.starttls)
            elif verb == "AUTH":
                self.say("235 welcome")
            elif verb == "RCPT" and server.refuses:
                self.say("550 <" + MAIL + "> is nobody here")
            elif verb == "DATA":
                self.say("354 go on")
                data = b""
                while not data.endswith(b"\r\n.\r\n"):
                    data += self.rfile.readline()
                server.mails.append(data[:-3])
                server.encrypted.append(isinstance(self.connection, ssl.SSLSocket))
                self.say("250 taken")
            elif verb == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")

    def secure(self, context: ssl.SSLContext) -> None:
        self.connection = self.request = context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)  # type: ignore[assignment]

    def finish(self) -> None:
        self.rfile.close()
        self.wfile.close()
        self.connection.close()


class MailServer(socketserver.ThreadingTCPServer):
    """A mail server of this machine that keeps what it is given."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.starttls: ssl.SSLContext | None = None
        self.direct: ssl.SSLContext | None = None
        self.refuses = False
        self.lines: list[str] = []
        self.mails: list[bytes] = []
        self.encrypted: list[bool] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust the certificate hangs up."""


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


@pytest.fixture
def to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connects smtplib to this machine whatever name it is given, as a name server would."""
    real = smtplib.socket.create_connection  # type: ignore[attr-defined]
    monkeypatch.setattr(
        smtplib.socket,  # type: ignore[attr-defined]
        "create_connection",
        lambda target, *more: real(("127.0.0.1", target[1]), *more),
    )


def serving(file: object) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(file))
    return context


def parsed(data: bytes) -> tuple[str, str, str]:
    message = email.message_from_bytes(data, policy=email.policy.default)
    body = message.get_body()
    assert body is not None
    return message["To"], message["Subject"], body.get_content().strip()


def test_a_mail_arrives_whole(mail_server: MailServer) -> None:
    notifier = notify.Smtp(f"smtp://127.0.0.1:{mail_server.port}", "hestia@example.org")
    notifier.send("email", MAIL, "验证码", TEXT)
    assert [parsed(one) for one in mail_server.mails] == [(MAIL, "验证码", TEXT)]
    assert b"Auto-Submitted: auto-generated" in mail_server.mails[0]


def test_a_text_message_is_not_mailed(mail_server: MailServer) -> None:
    notify.Smtp(f"smtp://127.0.0.1:{mail_server.port}", "hestia@example.org").send("sms", NUMBER, "", TEXT)
    assert mail_server.lines == []


@pytest.mark.usefixtures("to_this_machine")
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_mail_is_encrypted_and_credentials_follow_only_then(
    mail_server: MailServer,
    certified: Certified,
    scheme: str,
) -> None:
    file, context = certified
    if scheme == "smtp":
        mail_server.starttls = serving(file)
    else:
        mail_server.direct = serving(file)
    url = f"{scheme}://hestia:s%40fe@keys.example:{mail_server.port}"
    notify.Smtp(url, "hestia@example.org", context=context).send("email", MAIL, "s", TEXT)
    assert mail_server.encrypted == [True]
    verbs = [line.split()[0].upper() for line in mail_server.lines]
    assert verbs.index("AUTH") < verbs.index("MAIL")
    with pytest.raises(ssl.SSLError):
        notify.Smtp(url, "hestia@example.org").send("email", MAIL, "s", TEXT)
    assert len(mail_server.mails) == 1


@pytest.mark.usefixtures("to_this_machine")
def test_another_machine_without_tls_is_not_spoken_to(mail_server: MailServer) -> None:
    notifier = notify.Smtp(f"smtp://u:p@mail.example:{mail_server.port}", "hestia@example.org")
    with pytest.raises(smtplib.SMTPNotSupportedError):
        notifier.send("email", MAIL, "s", TEXT)
    assert not any(line.startswith(("AUTH", "MAIL")) for line in mail_server.lines)


def test_a_line_end_in_a_subject_or_address_adds_no_header(mail_server: MailServer) -> None:
    notifier = notify.Smtp(f"smtp://127.0.0.1:{mail_server.port}", "hestia@example.org")
    for to, subject in ((MAIL, "s\r\nBcc: other@example.org"), (MAIL + "\r\nBcc: other@example.org", "s")):
        with pytest.raises(ValueError):
            notifier.send("email", to, subject, TEXT)
    assert mail_server.mails == []


@pytest.mark.parametrize(
    ("url", "sender"),
    [("http://x", "a@b"), ("smtp://", "a@b"), ("smtp://x:y", "a@b"), ("smtp://x", ""), ("smtp://x", "a@b\nc")],
)
def test_a_mail_server_that_cannot_be_is_refused(url: str, sender: str) -> None:
    with pytest.raises(notify.UnusableNotifier):
        notify.Smtp(url, sender)


def test_a_failure_reaches_nobody_and_its_log_names_nobody(
    mail_server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    mail_server.refuses = True
    recording = RecordingNotifier()
    mailing = notify.Smtp(f"smtp://127.0.0.1:{mail_server.port}", "hestia@example.org")
    with caplog.at_level(logging.DEBUG):
        notify.Channels([mailing, recording]).send("email", MAIL, "s", TEXT)
    assert [one.to for one in recording.sent] == [MAIL]
    assert "could not be sent (SMTPRecipientsRefused)" in caplog.text
    assert MAIL not in caplog.text
    assert "123456" not in caplog.text


def test_the_background_sends_everything_before_it_closes() -> None:
    recording = RecordingNotifier()
    background = notify.Background(recording)
    for number in range(20):
        background.send("sms", NUMBER, "", str(number))
    background.close()
    assert [one.text for one in recording.sent] == [str(number) for number in range(20)]
    background.send("sms", NUMBER, "", "again")
    background.close()
    assert len(recording.sent) == 21


def test_the_console_prints_in_development_only() -> None:
    stream = io.StringIO()
    notify.Console(production=False, stream=stream).send("sms", NUMBER, "验证码", TEXT)
    assert NUMBER in stream.getvalue()
    assert TEXT in stream.getvalue()
    with pytest.raises(notify.UnusableNotifier):
        notify.Console(production=True)


@pytest.mark.both_stores
def test_the_outbox_keeps_messages_sealed_for_a_day(auth: Auth, clock: AuthClock) -> None:
    outbox = notify.Outbox(auth.store, auth.vault, production=False, clock=clock)
    outbox.send("sms", NUMBER, "验证码", TEXT)
    clock.advance(1)
    outbox.send("email", MAIL, "second", "text")
    shown = notify.read_outbox(auth.store, auth.vault)
    assert [(one.channel, one.to, one.subject, one.text) for one in shown] == [
        ("email", MAIL, "second", "text"),
        ("sms", NUMBER, "验证码", TEXT),
    ]
    kept = repr(auth.store.page(notify.Message))
    assert NUMBER not in kept
    assert "123456" not in kept
    clock.advance(notify.KEEP_S - 1)
    assert len(notify.read_outbox(auth.store, auth.vault)) == 1


def test_there_is_no_outbox_in_production(auth_store: AuthStore, vault: Vault) -> None:
    with pytest.raises(notify.UnusableNotifier):
        notify.Outbox(auth_store, vault, production=True)


class SmsService(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.taken.append((self.headers["Authorization"], body))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def sms_service() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), SmsService) as server:
        server.taken, server.status = [], 202  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


def test_a_text_message_goes_to_the_service(sms_service: HTTPServer) -> None:
    with httpx.Client(trust_env=False) as client:
        url = f"http://127.0.0.1:{sms_service.server_address[1]}/messages"
        notifier = notify.Sms(notify.HttpSms(url, "secret", client=client))
        notifier.send("sms", NUMBER, "ignored", TEXT)
        notifier.send("email", MAIL, "s", TEXT)
        assert sms_service.taken == [("Bearer secret", {"to": NUMBER, "text": TEXT})]  # type: ignore[attr-defined]
        sms_service.status = 500  # type: ignore[attr-defined]
        with pytest.raises(httpx.HTTPStatusError):
            notifier.send("sms", NUMBER, "", TEXT)


class KeptTexts:
    """An adapter of somebody's own."""

    def send(self, number: str, text: str) -> None:
        """Sends nothing."""


def test_an_adapter_is_named_by_module_and_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(notify.load_sms("collections:OrderedDict"), dict)
    for name in ("", ":", "nothing.there:x", "json:nothing", "json"):
        with pytest.raises(notify.UnusableNotifier):
            notify.load_sms(name)
    monkeypatch.delenv("SMS_URL", raising=False)
    with pytest.raises(notify.UnusableNotifier, match="SMS_URL"):
        notify.load_sms("smart_auth.notify:http_sms")
    monkeypatch.setenv("SMS_URL", "https://sms.example/messages")
    monkeypatch.setenv("SMS_TOKEN", "secret")
    assert isinstance(notify.load_sms("smart_auth.notify:http_sms"), notify.HttpSms)
