"""The forms of the pages. Every one carries a CSRF token; labels are message ids.

A form for a step of a longer way holds what earlier steps asked in hidden fields, so that nothing of it is in a URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask_babel import lazy_gettext as _
from flask_wtf import FlaskForm
from wtforms import (
    BooleanField,
    DateField,
    HiddenField,
    PasswordField,
    RadioField,
    SelectField,
    StringField,
    TextAreaField,
)
from wtforms.fields.choices import SelectChoice
from wtforms.validators import EqualTo, InputRequired, Length, Optional, Regexp

MAX_NAME: Final = 100
MAX_LIST: Final = 20_000

_REQUIRED: Final = _("Please fill this in.")


def choices(labels: Mapping[str, Any]) -> list[SelectChoice]:
    """The choices of a field: value and label."""
    return [SelectChoice(value, label) for value, label in labels.items()]


def _needed(longest: int = 320) -> list[Any]:
    return [InputRequired(_REQUIRED), Length(max=longest, message=_("This is too long."))]


def _may(longest: int = 320) -> list[Any]:
    return [Optional(), Length(max=longest, message=_("This is too long."))]


def _new_password(label: Any) -> PasswordField:
    return PasswordField(
        label,
        _needed(),
        description=_("At least 10 characters. Several unrelated words make a good password."),
        render_kw={"autocomplete": "new-password", "minlength": 10},
    )


def _again(name: str) -> PasswordField:
    return PasswordField(
        _("The same password again"),
        [InputRequired(_REQUIRED), EqualTo(name, _("The two passwords are not the same."))],
        render_kw={"autocomplete": "new-password"},
    )


def _code(label: Any = None) -> StringField:
    return StringField(
        label or _("Code"),
        [InputRequired(_REQUIRED), Regexp(r"\s*\d{3}\s*\d{3}\s*$", message=_("The code has six digits."))],
        render_kw={"autocomplete": "one-time-code", "inputmode": "numeric", "maxlength": 8, "class": "one-time"},
    )


def _phone() -> StringField:
    return StringField(
        _("Mobile phone number"), _needed(32), render_kw={"autocomplete": "tel", "inputmode": "tel", "type": "tel"}
    )


class ActionForm(FlaskForm):
    """A button: nothing but the CSRF token, and where to go then."""

    next = HiddenField()


class LoginForm(ActionForm):
    """Who it is and a password."""

    name = StringField(
        _("Phone number, user name or e-mail"),
        _needed(),
        render_kw={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"},
    )
    password = PasswordField(_("Password"), _needed(1000), render_kw={"autocomplete": "current-password"})


class PhoneForm(ActionForm):
    """Where a code is sent to."""

    phone = _phone()


class ContactForm(ActionForm):
    """Where a code is sent to: a phone number or an e-mail address."""

    contact = StringField(_("Mobile phone number or e-mail"), _needed(), render_kw={"autocomplete": "username"})


class PhoneCodeForm(ActionForm):
    """The code that was sent to a phone."""

    phone = HiddenField(validators=_needed(32))
    code = _code()


class SecondFactorForm(ActionForm):
    """A code of the app, or a recovery code."""

    code = StringField(
        _("Code of your authenticator app"),
        _needed(40),
        description=_("Or one of your recovery codes."),
        render_kw={"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false"},
    )


class RoleForm(ActionForm):
    """Which role to work in."""

    role = RadioField(_("Role"), choices=[], validators=[InputRequired(_("Please choose one."))])


class RegisterForm(ActionForm):
    """A patient's new account: the last step, after the code was sent."""

    phone = HiddenField(validators=_needed(32))
    code = _code()
    name = StringField(_("Your name"), _needed(MAX_NAME), render_kw={"autocomplete": "name"})
    password = _new_password(_("Password"))
    again = _again("password")
    privacy = BooleanField(
        _("I have read the privacy notice and agree to it."),
        [InputRequired(_("Without this there can be no account."))],
    )


class StartRegisterForm(ActionForm):
    """The first step of registration."""

    phone = _phone()


class ResetForm(ActionForm):
    """A new password, with the code that was sent."""

    contact = HiddenField(validators=_needed())
    code = _code()
    password = _new_password(_("New password"))
    again = _again("password")


class NewPasswordForm(ActionForm):
    """The first own password, in place of one that somebody else knows."""

    password = _new_password(_("New password"))
    again = _again("password")


class ProfileForm(ActionForm):
    """Name and user name."""

    name = StringField(_("Name"), _needed(MAX_NAME), render_kw={"autocomplete": "name"})
    username = StringField(
        _("User name"),
        _may(64),
        description=_("To log in with, if you like. Letters, digits, dots and hyphens."),
        render_kw={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"},
    )


class ChangePasswordForm(ActionForm):
    """Another password."""

    current = PasswordField(_("Password now"), _needed(1000), render_kw={"autocomplete": "current-password"})
    password = _new_password(_("New password"))
    again = _again("password")


class ConfirmForm(ActionForm):
    """The password once more, before something dangerous."""

    password = PasswordField(_("Your password"), _needed(1000), render_kw={"autocomplete": "current-password"})


class ContactCodeForm(ActionForm):
    """The code that was sent to a new phone number or e-mail address."""

    contact = HiddenField(validators=_needed())
    code = _code()


class NewContactForm(ActionForm):
    """A new phone number or e-mail address."""

    contact = StringField(_("New phone number or e-mail"), _needed())


class TotpForm(ActionForm):
    """The first code of a new authenticator."""

    code = _code(_("Code that the app shows"))


class ConsentForm(FlaskForm):
    """What a person lets an app do: the button `decision` is allow or deny, each box that is ticked one more `scope`.

    `request` is the opaque id of the pending authorization request, `about` the patient and visit that the page shows.
    """

    request = HiddenField(validators=_needed())
    about = HiddenField()
    remember = BooleanField(_("Do not ask me again for this app"))


class PickForm(FlaskForm):
    """Whose record: the button `search` looks for `text`, the radio buttons `patient` have ids."""

    request = HiddenField(validators=_needed())
    text = StringField(_("Name or number of the patient"), _may(100), render_kw={"type": "search"})


class VisitForm(FlaskForm):
    """Which visit: the button `find` looks for those up to the day `until`, `more` shows so many, and the radio buttons
    `encounter` have ids.
    """

    request = HiddenField(validators=_needed())
    until = DateField(
        _("Visits up to this day"),
        [Optional()],
        invalid_value_message=_("This is no day. Please enter it as 2026-01-31."),
        render_kw={"max": "9999-12-31"},
    )


class SearchForm(FlaskForm):
    """Looks for accounts."""

    text = StringField(_("Name, user name, phone or e-mail"), _may(), render_kw={"type": "search"})


class StaffForm(FlaskForm):
    """A new account for somebody who works here."""

    name = StringField(_("Name"), _needed(MAX_NAME))
    username = StringField(
        _("User name"), _needed(64), description=_("Letters, digits, dots and hyphens."), render_kw={"class": "code"}
    )
    role = SelectField(_("Role"), validators=_needed())
    fhir_user = StringField(
        _("Record of this person"),
        _needed(80),
        description=_("For example Practitioner/123"),
        render_kw={"class": "code"},
    )


class GrantRoleForm(FlaskForm):
    """One more role."""

    role = SelectField(_("Role"), validators=_needed())
    fhir_user = StringField(
        _("Record of this person"),
        _needed(80),
        description=_("For example Practitioner/123"),
        render_kw={"class": "code"},
    )


CLIENT_KINDS: Final = {
    "public": _("Public (runs in a browser or on a phone; no secret)"),
    "confidential-symmetric": _("Confidential, with a secret"),
    "confidential-asymmetric": _("Confidential, with keys"),
    "backend": _("Back-end service, with keys"),
}


class ClientForm(FlaskForm):
    """An app or back-end service."""

    name = StringField(_("Name of the app"), _needed(MAX_NAME))
    type = SelectField(
        _("Kind"),
        choices=choices(CLIENT_KINDS),
        validators=_needed(),
    )
    redirect_uris = TextAreaField(_("Redirect addresses, one a line"), _may(MAX_LIST), render_kw={"class": "code"})
    launch_uri = StringField(_("Launch address"), _may(2000), render_kw={"class": "code"})
    scope = TextAreaField(_("Scopes it may ask for"), _needed(MAX_LIST), render_kw={"class": "code"})
    jwks = TextAreaField(_("Public keys (JWKS)"), _may(MAX_LIST), render_kw={"class": "code"})
    jwks_uri = StringField(_("Address of its public keys"), _may(2000), render_kw={"class": "code"})
    trusted = BooleanField(_("Belongs to the hospital: people are not asked for consent"))


class PolicyForm(FlaskForm):
    """The rules of a role."""

    rules = TextAreaField(
        _("Rules (JSON)"), _needed(400_000), render_kw={"class": "code tall", "spellcheck": "false", "rows": 24}
    )
    note = StringField(_("Why this change"), _may(200))


class LaunchForm(FlaskForm):
    """Whom the sample app is launched for."""

    text = StringField(_("Name or number of the patient"), _may(100), render_kw={"type": "search"})
