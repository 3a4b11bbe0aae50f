"""Appointments of the coming fortnight, and those of the last months that came to nothing. Kernel K7."""

from __future__ import annotations

import datetime

from seed.base import JSON
from seed.chart import Chart
from seed.life import Life
from seed.rota import FORTNIGHT
from seed.visit import appointment


def appointments(life: Life) -> list[JSON]:
    """Booked, pending and cancelled appointments of one patient; takes the places they need from the rota."""
    chart, today = life.chart, life.world.today
    if life.person.died is not None:
        return []
    out: list[JSON] = []
    end = today + datetime.timedelta(days=FORTNIGHT)
    due = sorted(life.upcoming, key=lambda item: (item.day, item.course.department))
    for item in due[:2]:
        # Who is due within two months may come now; the rest has not booked yet.
        if item.day >= end and (item.day >= today + datetime.timedelta(days=75) or chart.rng.random() < 0.35):
            continue
        mode = "online" if item.course.now.kind == "VR" else "clinic"
        if item.course.now.kind in ("IMP", "EMER"):
            continue
        near = max(item.day, today) if item.day < end else today + datetime.timedelta(days=chart.rng.randint(0, 9))
        hold = chart.rng.random() < 0.12
        booked = _book(life, item.course.department, near, mode, hold)
        if booked:
            out.append(booked)
    out += _failed(chart)
    return out


def _book(life: Life, department: str, near: datetime.date, mode: str, hold: bool) -> JSON | None:
    chart = life.chart
    if department == "paediatrics" and life.person.age(near) >= 15:
        department = "general"
    usual = chart.doctor(department)
    choice = sorted(life.world.rota.doctors(department, mode), key=lambda post: post.role != usual.role)
    for post in choice:
        place = life.world.rota.book(post, near, mode, chart.taken, hold)
        if place is not None:
            chart.taken.add(place.date)
            made = life.world.today - datetime.timedelta(days=1 + chart.rng.randint(0, 6))
            status = "pending" if hold else "booked"
            return appointment(chart, place, status, "FOLLOWUP", f"{post.department.zh}复诊", made)
    return None


def _failed(chart: Chart) -> list[JSON]:
    """Now and then a patient cancelled or did not come."""
    out = []
    today = chart.world.today
    for _ in range(chart.rng.choices((0, 1), weights=(0.6, 0.4))[0]):
        day = today - datetime.timedelta(days=chart.rng.randint(20, 160))
        if day <= chart.person.since:
            continue
        department = "paediatrics" if chart.person.age(day) < 15 else "general"
        post = chart.doctor(department)
        missed = chart.rng.random() < 0.35
        # A place that was given back is not kept; one whose patient did not come stays taken.
        place = chart.world.rota.past(post, day, "clinic", chart.taken, missed, today, keep=missed)
        if place is None:
            continue
        chart.taken.add(place.date)
        if missed:
            out.append(appointment(chart, place, "noshow", "ROUTINE", ""))
        else:
            reason = chart.rng.choice((("pat-cpp", "Patient: Canceled via Patient Portal"), ("prov", "Provider")))
            out.append(appointment(chart, place, "cancelled", "ROUTINE", "", cancelled=reason))
    return out
