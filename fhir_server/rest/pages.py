"""The pages that people look at: landing page, readable CapabilityStatement, interactive API documentation. Flask.

FHIR requests never come here (rest/wsgi.py takes them first). Nothing on these pages is patient data: links, and counts
where access control is off; what the console on the landing page shows, it fetches from the API as any client does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import swagger_ui_bundle  # type: ignore[import-untyped]
from flask import Flask, Response, render_template, send_from_directory
from flask_smorest import Api, Blueprint
from marshmallow import Schema, fields
from werkzeug.exceptions import HTTPException

from fhir_server.context import MOUNT, Server
from fhir_server.interactions.capabilities import statement
from fhir_server.rest.openapi import describe
from fhir_server.rest.protection import PAGES, hsts


class Health(Schema):
    """What /health answers."""

    status = fields.String(required=True, metadata={"example": "ok"})


def create_pages(server: Callable[[], Server], *, auth_off: bool = True) -> Flask:
    """The Flask application behind the FHIR adapter. `server` returns the Server of the calling worker."""
    app = Flask(__name__)
    app.config.update(
        API_TITLE="Hestia FHIR R4 server",
        API_VERSION=server().settings.software_version,
        OPENAPI_VERSION="3.0.3",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
    )
    protecting = {**PAGES, **dict(hsts(server().settings.base_url))}
    api = Api(app)
    describe(api.spec, guarded=not auth_off)
    service = Blueprint("Service", __name__, description="For those who operate the server")

    @app.context_processor
    def _common() -> dict[str, Any]:
        settings = server().settings
        return {
            "auth_off": auth_off,
            "base_path": urlsplit(settings.base_url).path or MOUNT,
            "base_url": settings.base_url,
            "version": settings.software_version,
        }

    @app.after_request
    def _secure(response: Response) -> Response:
        for name, value in protecting.items():
            response.headers.setdefault(name, value)
        return response

    @app.get("/")
    def home() -> str:
        core = server()
        statistics = core.store.statistics()
        counts = sorted(core.store.counts().items(), key=lambda item: (-item[1], item[0]))
        # With access control on, even a number of patients is nobody's who does not log in.
        return render_template(
            "home.html",
            page="home",
            counts=counts if auth_off else [],
            total=sum(number for _, number in counts) if auth_off else 0,
            store_name=f"{statistics['database']} {statistics.get('version', '')}".strip() if auth_off else "",
            links=links_to_try({name for name, _ in counts}),
        )

    @app.get("/capabilities")
    def capabilities() -> str:
        cache = server().cache  # emptied when the search parameters change
        html: str | None = cache.get("capabilities page")
        if html is None:
            found = statement(server(), "full")
            html = render_template("capabilities.html", page="capabilities", statement=found, rest=found["rest"][0])
            cache["capabilities page"] = html
        return html

    @app.get("/docs")
    def docs() -> str:
        return render_template("docs.html", page="docs")

    @app.get("/static/swagger/<path:filename>")
    def swagger(filename: str) -> Response:
        return send_from_directory(swagger_ui_bundle.swagger_ui_path, filename, max_age=86_400)

    @service.get("/health")
    @service.response(200, Health)
    def health() -> dict[str, str]:
        """Whether this worker reaches its store; for load balancers. Reads one record of the store's own."""
        server().store.get_meta("identity")
        return {"status": "ok"}

    api.register_blueprint(service)

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> tuple[str, int]:
        status = error.code or 500
        title = {404: "There is no such page", 405: "This page cannot be used that way"}.get(status, error.name)
        return render_template(
            "message.html", page="", title=title, text="The FHIR API is below the FHIR base address."
        ), status

    return app


def links_to_try(types: set[str]) -> list[tuple[str, str]]:
    """Titles and paths (below the base) that answer something with the types that are stored."""
    always = [("What this server can do", "metadata?_summary=true")]
    needs: list[tuple[set[str], str, str]] = [
        ({"Patient"}, "The first five patients", "Patient?_count=5"),
        ({"Patient"}, "Patients by name, in Chinese", "Patient?name=王"),
        ({"Patient"}, "Born in the sixties, oldest first", "Patient?birthdate=ge1960&birthdate=lt1970&_sort=birthdate"),
        (
            {"Observation"},
            "Systolic pressure above 140",
            "Observation?component-code-value-quantity=8480-6$gt140&_count=5",
        ),
        ({"Observation", "Patient"}, "A chain: results of women", "Observation?subject:Patient.gender=female&_count=5"),
        (
            {"Condition", "Patient"},
            "Patients who have hypertension (_has)",
            "Patient?_has:Condition:subject:code=I10&_count=5",
        ),
        (
            {"Encounter"},
            "Visits with their patients (_include)",
            "Encounter?_include=Encounter:subject&_count=5&_sort=-date",
        ),
        ({"Slot"}, "Free appointments", "Slot?status=free&_sort=start&_count=5&_include=Slot:schedule"),
        ({"MedicationRequest"}, "Prescriptions, counted", "MedicationRequest?_summary=count"),
        ({"Patient"}, "Why is it fast? The plan of a search", "Patient?name=li&_explain=true"),
        (set(), "What changed last", "_history?_count=5"),
    ]
    return always + [(title, path) for wanted, title, path in needs if wanted <= types]
