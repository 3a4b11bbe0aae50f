"""What each role may do: rules as data, checked, with every version kept. An old version is restored as a new one."""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, request, url_for
from flask_babel import gettext as _

from smart_auth.context import Auth
from smart_auth.web.forms import PolicyForm
from smart_auth.web.shell import Answer, administrator, current_account, current_role, page, recent, tell


def add(pages: Blueprint, auth: Auth) -> None:
    """Adds the pages below /admin/policies."""

    @pages.get("/policies")
    @administrator
    def policies() -> Answer:
        rows = [] if auth.policies is None else [(role, auth.policies.current(role)) for role in auth.policies.roles()]
        return page("admin_policies.html", page="admin", tab="policies", rows=rows)

    @pages.route("/policies/<role>", methods=["GET", "POST"])
    @administrator
    @recent(auth)
    def policy(role: str) -> Answer:
        if auth.policies is None or role not in auth.policies.roles():
            abort(404)
        current = auth.policies.current(role)
        form = PolicyForm()
        findings: list[str] = []
        if request.method == "GET":
            form.rules.data = current["rules_json"]
            wanted = request.args.get("version", "")
            for one in auth.policies.versions(role):
                if wanted and str(one["version"]) == wanted:
                    form.rules.data = one["rules_json"]
                    form.note.data = _("Version %(version)s again", version=one["version"])
        elif form.validate_on_submit():
            if "check" in request.form:
                findings = auth.policies.check(role, form.rules.data)
                if not findings:
                    flash(_("These rules are fine. They are not saved yet."), "info")
            else:
                me = current_account()
                findings = auth.policies.save(role, form.rules.data, me.name, form.note.data or "")
                if not findings:
                    tell(auth, "policy-change", me, current_role(), subject=role)
                    flash(_("The new rules are in force."), "info")
                    return redirect(url_for("admin.policy", role=role), 303)
        answer = page(
            "admin_policy.html",
            None,
            form,
            page="admin",
            tab="policies",
            subject=role,
            current=current,
            findings=findings,
            versions=auth.policies.versions(role),
        )
        return (answer[0], 400) if findings and isinstance(answer, tuple) else answer
