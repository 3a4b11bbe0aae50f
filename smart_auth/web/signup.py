"""Making an account and getting back into one, with a code that is sent. Kernel K1.

Every step is answered alike whether the phone number or address is known here or not.
"""

from __future__ import annotations

from flask import Blueprint, flash, redirect, request, url_for
from flask_babel import gettext as _

from smart_auth.context import Auth
from smart_auth.problems import Problem
from smart_auth.web.forms import ContactForm, RegisterForm, ResetForm, StartRegisterForm
from smart_auth.web.login import HOME, admit, locale
from smart_auth.web.shell import Answer, address, onward, page


def blueprint(auth: Auth) -> Blueprint:
    """The pages /register and /forgot."""
    pages = Blueprint("signup", __name__)

    @pages.route("/register", methods=["GET", "POST"])
    def register() -> Answer:
        form = StartRegisterForm(next=onward(HOME))
        if not auth.settings.self_registration:
            title, text = _("Make an account"), _("Accounts are made by the hospital.")
            return page("message.html", None, form, title=title, text=text, bad=False, onward="/login")
        if not form.validate_on_submit():
            return page("register.html", None, form, sent=False)
        try:
            auth.accounts.request_registration_code(form.phone.data, address(), locale())
        except Problem as problem:
            return page("register.html", problem, form, sent=False)
        entry = RegisterForm(formdata=None, phone=form.phone.data, next=form.next.data)
        return page("register.html", None, entry, sent=True)

    @pages.post("/register/account")
    def make() -> Answer:
        form = RegisterForm()
        if not form.validate_on_submit():
            return page("register.html", None, form, sent=True)
        code = "".join(form.code.data.split())
        try:
            account = auth.accounts.register(
                form.name.data, form.phone.data, code, form.password.data, address(), locale()
            )
        except Problem as problem:
            return page("register.html", problem, form, sent=True)
        flash(_("Welcome. Your account is ready."), "info")
        return admit(auth, account, ("pwd", "sms"), onward(HOME))

    @pages.route("/forgot", methods=["GET", "POST"])
    def forgot() -> Answer:
        form = ContactForm(next=onward(HOME))
        if not form.validate_on_submit():
            return page("forgot.html", None, form, sent=False)
        try:
            auth.accounts.request_reset_code(form.contact.data, address(), locale())
        except Problem as problem:
            return page("forgot.html", problem, form, sent=False)
        entry = ResetForm(formdata=None, contact=form.contact.data, next=form.next.data)
        return page("forgot.html", None, entry, sent=True)

    @pages.post("/forgot/password")
    def reset() -> Answer:
        form = ResetForm()
        if not form.validate_on_submit():
            return page("forgot.html", None, form, sent=True)
        code = "".join(form.code.data.split())
        try:
            auth.accounts.reset_password(form.contact.data, code, form.password.data, address())
        except Problem as problem:
            return page("forgot.html", problem, form, sent=True)
        flash(_("Your password is changed, and every device was logged out. Please log in."), "info")
        return redirect(url_for("login.form", next=onward(HOME)), 303)

    @pages.get("/register/account")
    @pages.get("/forgot/password")
    def begin_again() -> Answer:
        return redirect(url_for("signup.register" if request.path.startswith("/register") else "signup.forgot"), 303)

    return pages
