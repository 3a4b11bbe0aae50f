"""Places, appointments, stock, money and numbers of the demo hospital agree with each other."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from decimal import Decimal
from itertools import pairwise
from typing import Any

import phonenumbers
import pytest
import stdnum.cn.ric
import stdnum.cn.uscc
import stdnum.ean
import stdnum.verhoeff
from stdnum.exceptions import InvalidComponent

import seed
from seed.base import CANONICAL_BASE, LOINC, SNOMED
from seed.terminology.local import SYSTEMS

TAKES_A_PLACE = {"pending", "booked", "arrived", "checked-in", "fulfilled", "noshow"}


def numbers(item: dict[str, Any], system: str) -> list[str]:
    return [part["value"] for part in item.get("identifier", []) if part["system"] == system]


def test_slot_identifiers_are_unique(demo):
    values = [numbers(item, f"{CANONICAL_BASE}/sid/slot-no")[0] for item in demo.of("Slot")]
    assert len(values) == len(set(values))


def test_a_slot_is_busy_exactly_when_an_appointment_holds_it(demo):
    holders = Counter(
        part["reference"]
        for item in demo.of("Appointment")
        if item["status"] in TAKES_A_PLACE
        for part in item.get("slot", [])
    )
    assert set(holders.values()) == {1}
    for item in demo.of("Slot"):
        held = f"Slot/{item['id']}" in holders
        assert (item["status"] in ("busy", "busy-tentative")) is held, item["id"]


def test_appointments_lie_within_their_slot_and_name_its_doctor(demo):
    for item in demo.of("Appointment"):
        if item["status"] == "cancelled":
            assert "slot" not in item
            continue
        slot = demo[item["slot"][0]["reference"]]
        assert slot["start"] <= item["start"] < item["end"] <= slot["end"]
        assert (slot["status"] == "busy-tentative") is (item["status"] == "pending")
        actors = {part["actor"]["reference"] for part in item["participant"]}
        schedule = demo[slot["schedule"]["reference"]]
        assert {part["reference"] for part in schedule["actor"]} <= actors
        assert schedule["planningHorizon"]["start"] <= slot["start"]
        assert slot["end"] <= schedule["planningHorizon"]["end"]


@pytest.mark.parametrize("prefix", ["PractitionerRole/", "Location/", "Patient/"])
def test_nobody_and_no_room_is_booked_twice_at_once(demo, prefix):
    rows: dict[str, list[tuple[str, str]]] = {}
    for item in demo.of("Appointment"):
        if item["status"] in TAKES_A_PLACE:
            for part in item["participant"]:
                if part["actor"]["reference"].startswith(prefix):
                    rows.setdefault(part["actor"]["reference"], []).append((item["start"], item["end"]))
    assert rows
    for row in rows.values():
        for (_, end), (start, _) in pairwise(sorted(row)):
            assert end <= start


def test_clinics_of_one_practitioner_and_of_one_room_do_not_overlap(demo):
    hours: dict[str, dict[tuple[str, str], str]] = {}
    for item in demo.of("Slot"):
        schedule = demo[item["schedule"]["reference"]]
        for actor in schedule["actor"]:
            kind, _, _ = actor["reference"].partition("/")
            who = actor["reference"]
            if kind == "PractitionerRole":
                who = demo[who]["practitioner"]["reference"]
            elif kind != "Location":
                continue
            owner = schedule["id"].removesuffix("-past")
            assert hours.setdefault(who, {}).setdefault((item["start"], item["end"]), owner) == owner


def test_the_rota_covers_the_coming_fortnight_and_offers_places(demo):
    coming = [item for item in demo.of("Slot") if item["start"][:10] >= seed.TODAY.isoformat()]
    assert len({item["start"][:10] for item in coming}) == 10
    states = Counter(item["status"] for item in coming)
    assert states["free"] > 300
    assert states["busy"] > 10
    assert states["busy-tentative"] > 0
    assert states["busy-unavailable"] > 0


def test_a_held_place_says_until_when(demo):
    held = [item for item in demo.of("Slot") if item["status"] == "busy-tentative"]
    assert held
    for item in held:
        assert item["extension"][0]["url"] == f"{CANONICAL_BASE}/StructureDefinition/hold-expires"


def test_slots_fall_into_the_doctors_weekly_hours_and_never_into_absences(demo):
    weekdays = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    for item in demo.of("Slot"):
        schedule = demo[item["schedule"]["reference"]]
        role = next(demo[part["reference"]] for part in schedule["actor"] if "PractitionerRole" in part["reference"])
        day, start, end = item["start"][:10], item["start"][11:19], item["end"][11:19]
        weekday = weekdays[datetime.date.fromisoformat(day).weekday()]
        assert any(
            weekday in part["daysOfWeek"] and part["availableStartTime"] <= start and end <= part["availableEndTime"]
            for part in role["availableTime"]
        )
        for absence in role.get("notAvailable", []):
            if absence["during"]["start"] <= day <= absence["during"]["end"]:
                assert item["status"] == "busy-unavailable"


def test_stock_is_never_negative_and_the_balance_is_the_sum_of_the_ledger(demo):
    stock, extension = f"{CANONICAL_BASE}/StructureDefinition/stock-on-hand", "extension"
    lots: dict[str, list[tuple[str, int, Decimal]]] = {}
    for item in demo.of("SupplyDelivery"):
        movement = item[extension][0]["valueCoding"]["code"]
        sign = 1 if movement.endswith("-in") else -1
        amount = sign * Decimal(item["suppliedItem"]["quantity"]["value"])
        lot = item["suppliedItem"]["itemReference"]["reference"]
        lots.setdefault(lot, []).append((item["occurrenceDateTime"], -sign, amount))
    dispensed = 0
    for item in demo.of("MedicationDispense"):
        for part in item.get(extension, []):
            dispensed += 1
            lot = part["valueReference"]["reference"]
            assert item["whenHandedOver"][:10] < demo[lot]["batch"]["expirationDate"]
            lots[lot].append((item["whenHandedOver"], 1, -Decimal(item["quantity"]["value"])))
    assert dispensed > 200
    totals: Counter[str] = Counter()
    for lot, lines in lots.items():
        balance = Decimal(0)
        for _, _, amount in sorted(lines):
            balance += amount
            assert balance >= 0, lot
        totals[demo[lot][extension][0]["valueReference"]["reference"]] += balance
    products = [item for item in demo.of("Medication") if "batch" not in item]
    assert len(products) > 40
    for item in products:
        shown = next(part["valueQuantity"]["value"] for part in item[extension] if part["url"] == stock)
        assert shown == totals[f"Medication/{item['id']}"]
        assert shown > 0


def test_what_is_dispensed_was_prescribed_in_that_amount(demo):
    for item in demo.of("MedicationDispense"):
        request = demo[item["authorizingPrescription"][0]["reference"]]
        assert request["subject"] == item["subject"]
        assert request["dispenseRequest"]["quantity"] == item["quantity"]
        assert request["authoredOn"] < item["whenPrepared"] < item["whenHandedOver"]


def test_every_drug_on_a_prescription_is_coded_in_atc(demo):
    for item in demo.of("MedicationRequest"):
        if "medicationReference" in item:
            code = demo[item["medicationReference"]["reference"]]["code"]
        else:
            code = item["medicationCodeableConcept"]
        western = item["category"][1]["coding"][0]["code"] == "western"
        systems = {part["system"] for part in code["coding"]}
        assert ("http://www.whocc.no/atc" in systems) is western


def test_invoices_add_up(demo):
    for item in demo.of("Invoice"):
        lines = [line["priceComponent"][0]["amount"]["value"] for line in item["lineItem"]]
        assert sum(lines) == item["totalNet"]["value"] == item["totalGross"]["value"]
        for line in item["lineItem"]:
            charge = demo[line["chargeItemReference"]["reference"]]
            assert charge["priceOverride"]["value"] == line["priceComponent"][0]["amount"]["value"]


def test_prices_charged_are_those_of_the_price_list(demo):
    urls = {item["url"] for item in demo.of("ChargeItemDefinition")}
    used = {url for item in demo.of("ChargeItem") for url in item.get("definitionCanonical", [])}
    assert used
    assert used <= urls


def test_resident_ids_have_the_right_checksum_and_belong_to_nowhere(demo):
    seen = set()
    for item in demo.of("Patient"):
        for value in numbers(item, "urn:oid:2.16.156.10011.1.3"):
            assert value[-1] == stdnum.cn.ric.calc_check_digit(value)
            assert stdnum.cn.ric.get_birth_date(value).isoformat() == item["birthDate"]
            assert int(value[16]) % 2 == (item["gender"] == "male")
            with pytest.raises(InvalidComponent):
                stdnum.cn.ric.get_birth_place(value)
            seen.add(value)
    assert len(seen) > 45


def test_every_patient_has_an_official_number_of_its_own(demo):
    official = [
        part["value"] for item in demo.of("Patient") for part in item["identifier"] if part.get("use") == "official"
    ]
    assert len(official) == len(set(official)) == 60


def test_other_numbers_are_well_formed_and_unassigned(demo):
    for item in demo.of("Organization"):
        for value in numbers(item, f"{CANONICAL_BASE}/sid/uscc"):
            assert stdnum.cn.uscc.is_valid(value)
            assert value[2:8] == "999999"
    for item in demo.of("Medication"):
        for value in numbers(item, "https://www.gs1.org/gtin"):
            assert stdnum.ean.is_valid(value)
            assert value.startswith("200")
        for value in numbers(item, f"{CANONICAL_BASE}/sid/nmpa-approval"):
            assert re.fullmatch(r"国药准字[HZSBTFJ]9999\d{4}", value)


def test_phone_numbers_look_right_and_ring_nowhere(demo):
    seen = set()
    for item in demo.of("Patient") + demo.of("RelatedPerson") + demo.of("Practitioner"):
        for part in item.get("telecom", []):
            if part["system"] != "phone":
                continue
            value = part["value"]
            seen.add(value[:3])
            if value.startswith("+"):
                assert re.fullmatch(r"\+1 202-555-01\d\d|\+44 7700 900\d{3}", value)
            else:
                assert re.fullmatch(r"1[3-9]\d{9}", value)
                assert not phonenumbers.is_valid_number(phonenumbers.parse(value, "CN"))
    assert "154" in seen


def test_names_are_chinese_minority_and_foreign(demo):
    chinese = [item for item in demo.of("Patient") if re.fullmatch(r"[\u4e00-\u9fff]{2,4}", item["name"][0]["text"])]
    assert len(chinese) >= 45
    for item in chinese:
        pinyin = item["name"][1]
        assert pinyin["extension"][0]["valueCode"] == "SYL"
        assert re.fullmatch(r"[A-Za-zü' ]+", pinyin["text"])
    texts = {item["name"][0]["text"] for item in demo.of("Patient")}
    assert {"阿依古丽·买买提", "扎西顿珠", "Michael Anderson", "Jürgen Weiß"} <= texts


def test_ages_reach_from_infancy_to_ninety_five(demo):
    years = {seed.TODAY.year - int(item["birthDate"][:4]) for item in demo.of("Patient")}
    assert min(years) <= 1
    assert max(years) >= 95


def test_minors_have_a_guardian_until_their_eighteenth_birthday(demo):
    guardians: dict[str, list[dict[str, Any]]] = {}
    for item in demo.of("RelatedPerson"):
        guardians.setdefault(item["patient"]["reference"], []).append(item)
    minors = 0
    for patient in demo.of("Patient"):
        reference = f"Patient/{patient['id']}"
        birth = patient["birthDate"]
        eighteen = f"{int(birth[:4]) + 18}{birth[4:]}"
        if eighteen <= seed.TODAY.isoformat() or reference not in guardians:
            continue
        minors += 1
        for item in guardians[reference]:
            assert "GUARD" in {part["coding"][0]["code"] for part in item["relationship"]}
            assert item["period"]["end"] == eighteen
            assert item["birthDate"] < f"{int(birth[:4]) - 13}"
    assert minors >= 10


def test_local_codes_are_defined(demo):
    """Every coding of a local system is in the CodeSystem that this same set publishes."""
    defined = {item["url"]: {part["code"] for part in item["concept"]} for item in demo.of("CodeSystem")}
    assert len(defined) == len(SYSTEMS) == 17

    def codings(value: Any) -> Any:
        if isinstance(value, dict):
            if "system" in value and "code" in value:
                yield value["system"], value["code"]
            for part in value.values():
                yield from codings(part)
        elif isinstance(value, list):
            for part in value:
                yield from codings(part)

    used = {
        pair for item in demo.resources for pair in codings(item) if pair[0].startswith(f"{CANONICAL_BASE}/CodeSystem/")
    }
    assert used
    assert [pair for pair in used if pair[1] not in defined[pair[0]]] == []


def test_local_extensions_are_defined(demo):
    defined = {item["url"] for item in demo.of("StructureDefinition")}

    def urls(value: Any) -> Any:
        if isinstance(value, dict):
            for part in value.get("extension", []):
                yield part["url"]
            for part in value.values():
                yield from urls(part)
        elif isinstance(value, list):
            for part in value:
                yield from urls(part)

    used = {url for item in demo.resources for url in urls(item) if url.startswith(CANONICAL_BASE)}
    assert len(used) >= 8
    assert used <= defined


def test_loinc_and_snomed_codes_have_right_check_digits(demo):
    """LOINC: Luhn over the digits (mod 10); SNOMED CT: Verhoeff. A typing error does not pass either."""
    loinc, snomed = set(), set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("system") == LOINC:
                loinc.add(value["code"])
            if value.get("system") == SNOMED:
                snomed.add(value["code"])
            for part in value.values():
                collect(part)
        elif isinstance(value, list):
            for part in value:
                collect(part)

    collect(demo.resources)
    assert len(loinc) > 60
    assert len(snomed) > 50
    assert [code for code in sorted(loinc) if not _luhn(code.replace("-", ""))] == []
    assert [code for code in sorted(snomed) if not _verhoeff(code)] == []


def _luhn(digits: str) -> bool:
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if index % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _verhoeff(digits: str) -> bool:
    return stdnum.verhoeff.is_valid(digits)
