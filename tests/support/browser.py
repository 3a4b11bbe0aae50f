"""A browser without JavaScript: follows redirects, keeps cookies, and fills in the forms of a page by their fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx


@dataclass
class Form:
    """One form of a page. `values` are what a browser would send; `choices` the values of radio buttons and boxes."""

    action: str
    method: str
    values: dict[str, str | list[str]] = field(default_factory=dict)
    choices: dict[str, list[str]] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._inside: Form | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._inside = Form(found.get("action", ""), found.get("method", "get").upper())
            self.forms.append(self._inside)
        elif self._inside is not None and tag in ("input", "textarea", "select") and found.get("name"):
            name, value, kind = found["name"], found.get("value", ""), found.get("type", "text")
            if kind in ("radio", "checkbox"):
                self._inside.choices.setdefault(name, []).append(value or "on")
                if "checked" in found and kind == "radio":
                    self._inside.values[name] = value or "on"
                elif "checked" in found:
                    ticked = self._inside.values.setdefault(name, [])
                    assert isinstance(ticked, list)
                    ticked.append(value or "on")
            elif kind == "submit":
                self._inside.buttons.append((name, value))
            else:
                self._inside.values[name] = value
        elif self._inside is not None and tag == "button" and found.get("name"):
            self._inside.buttons.append((found["name"], found.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = None


class Browser:
    """One person's browser. `leaves_at`: an address that begins like this is not fetched; it is where an app waits."""

    def __init__(self, leaves_at: str) -> None:
        self._client = httpx.Client(timeout=30, headers={"Accept-Language": "en"})
        self._leaves_at = leaves_at
        self.url = ""
        self.html = ""
        self.status = 0

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def left(self) -> bool:
        """Whether the last answer led to the app."""
        return self.url.startswith(self._leaves_at)

    def open(self, url: str) -> Browser:
        """Goes to an address."""
        return self._follow("GET", url, None)

    def forms(self) -> list[Form]:
        """The forms of the page."""
        parser = _Forms()
        parser.feed(self.html)
        return parser.forms

    def form_with(self, name: str) -> Form:
        """The first form that has a field, choice or button of that name."""
        for form in self.forms():
            if name in form.values or name in form.choices or any(button == name for button, _ in form.buttons):
                return form
        raise AssertionError(f"There is no form with `{name}` at {self.url.partition('?')[0]} ({self.status}).")

    def submit(self, form: Form, **values: str | list[str]) -> Browser:
        """Sends a form with these values in place of its own."""
        sent = {**form.values, **values}
        return self._follow(form.method, urljoin(self.url, form.action), sent)

    def log_in(self, name: str, password: str) -> Browser:
        """Fills in the login form that a page shows."""
        return self.submit(self.form_with("password"), name=name, password=password)

    def _follow(self, method: str, url: str, data: dict[str, str | list[str]] | None) -> Browser:
        for _ in range(12):
            if url.startswith(self._leaves_at):
                self.url, self.html, self.status = url, "", 302
                return self
            if method == "GET":
                answer = self._client.get(url, params=data) if data else self._client.get(url)
            else:
                answer = self._client.post(url, data=data)
            self.url, self.html, self.status = str(answer.url), answer.text, answer.status_code
            if not answer.has_redirect_location:
                return self
            method, data, url = "GET", None, urljoin(self.url, answer.headers["Location"])
        raise AssertionError("The pages redirect in a circle.")
