"""JSON Patch: RFC 6902 with its own examples (appendix A), RFC 6901 pointers, R4 http.html#patch."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fhir_server.errors import BadRequest, Unprocessable
from fhir_server.interactions.jsonpatch import apply
from fhir_server.resources.jsonformat import FhirDecimal, encode, parse


def patched(document: dict[str, Any], *operations: dict[str, Any]) -> dict[str, Any]:
    before = copy.deepcopy(document)
    result = apply(document, list(operations))
    assert document == before
    return result


def op(name: str, path: str, **more: Any) -> dict[str, Any]:
    return {"op": name, "path": path, **({"from": more.pop("source")} if "source" in more else {}), **more}


APPENDIX_A: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("A.1", {"foo": "bar"}, op("add", "/baz", value="qux"), {"baz": "qux", "foo": "bar"}),
    ("A.2", {"foo": ["bar", "baz"]}, op("add", "/foo/1", value="qux"), {"foo": ["bar", "qux", "baz"]}),
    ("A.3", {"baz": "qux", "foo": "bar"}, op("remove", "/baz"), {"foo": "bar"}),
    ("A.4", {"foo": ["bar", "qux", "baz"]}, op("remove", "/foo/1"), {"foo": ["bar", "baz"]}),
    ("A.5", {"baz": "qux", "foo": "bar"}, op("replace", "/baz", value="boo"), {"baz": "boo", "foo": "bar"}),
    ("A.6", {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
     op("move", "/qux/thud", source="/foo/waldo"), {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}}),
    ("A.7", {"foo": ["all", "grass", "cows", "eat"]}, op("move", "/foo/3", source="/foo/1"),
     {"foo": ["all", "cows", "eat", "grass"]}),
    ("A.8", {"baz": "qux", "foo": ["a", 2, "c"]}, op("test", "/foo/1", value=2), {"baz": "qux", "foo": ["a", 2, "c"]}),
    ("A.10", {"foo": "bar"}, op("add", "/child", value={"grandchild": {}}), {"foo": "bar",
     "child": {"grandchild": {}}}),
    ("A.11", {"foo": "bar"}, op("add", "/baz", value="qux", xyz=123), {"foo": "bar", "baz": "qux"}),
    ("A.14", {"/": 9, "~1": 10}, op("test", "/~01", value=10), {"/": 9, "~1": 10}),
    ("A.16", {"foo": ["bar"]}, op("add", "/foo/-", value=["abc", "def"]), {"foo": ["bar", ["abc", "def"]]}),
    ("add to the end by index", {"a": [1]}, op("add", "/a/1", value=2), {"a": [1, 2]}),
    ("add replaces a member", {"a": 1}, op("add", "/a", value=2), {"a": 2}),
    ("add null", {"a": 1}, op("add", "/b", value=None), {"a": 1, "b": None}),
    ("empty name", {"": 1}, op("replace", "/", value=2), {"": 2}),
    ("slash in a name", {"a/b": 1}, op("replace", "/a~1b", value=2), {"a/b": 2}),
    ("whole document", {"a": 1}, op("replace", "", value={"b": 2}), {"b": 2}),
    ("copy", {"a": {"b": [1]}}, op("copy", "/c", source="/a"), {"a": {"b": [1]}, "c": {"b": [1]}}),
    ("move to itself", {"a": 1}, op("move", "/a", source="/a"), {"a": 1}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "operation", "expected"), [pytest.param(*case[1:], id=case[0]) for case in APPENDIX_A]
)
def test_operations(document: dict[str, Any], operation: dict[str, Any], expected: dict[str, Any]) -> None:
    assert patched(document, operation) == expected


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, FhirDecimal("1.0"), True), (FhirDecimal("1.0"), FhirDecimal("1.00"), True), (FhirDecimal("1e2"), 100, True),
        (1, True, False), (0, False, False), (0, None, False), ("1", 1, False), ("é", "e\u0301", False), ([], {},
         False),
        ({"a": 1, "b": [2]}, {"b": [2], "a": FhirDecimal("1.0")}, True), ([1, 2], [2, 1], False), ({"a": 1}, {}, False),
        (None, None, True), ([True], [1], False),
    ],
)  # fmt: skip
def test_equality_of_test(left: Any, right: Any, same: bool) -> None:
    document = {"a": left}
    if same:
        assert patched(document, op("test", "/a", value=right)) == document
    else:
        with pytest.raises(Unprocessable):
            patched(document, op("test", "/a", value=right))


@pytest.mark.parametrize(
    "operation",
    [
        op("test", "/b", value=1), op("remove", "/b"), op("replace", "/b", value=1), op("add", "/b/c", value=1),
        op("add", "/list/3", value=1), op("add", "/list/-1", value=1), op("add", "/list/01", value=1), op("add",
         "/list/x", value=1),
        op("remove", "/list/2"), op("remove", "/list/-"), op("replace", "/list/-", value=1), op("copy", "/c",
         source="/b"),
        op("move", "/c", source="/list/2"), op("add", "/a/b", value=1), op("remove", ""), op("replace", "", value=[]),
        op("add", "/list/1e0", value=1), op("add", "/list/٠", value=1), op("test", "/a", value=2),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_422(operation: dict[str, Any]) -> None:
    with pytest.raises(Unprocessable):
        patched({"a": 1, "list": [1, 2]}, operation)


@pytest.mark.parametrize(
    "operations",
    [
        {}, None, "x", [1], [{}], [{"op": "spam", "path": "/a"}], [{"op": ["add"], "path": "/a"}], [{"op": "add",
         "path": "/a"}],
        [{"op": "remove"}], [{"op": "remove", "path": 1}], [{"op": "remove", "path": "a"}], [{"op": "remove",
         "path": "/~2"}],
        [{"op": "remove", "path": "/a~"}], [{"op": "copy", "path": "/a"}], [{"op": "move", "path": "/a", "from": "b"}],
        [{"op": "move", "path": "/a/b", "from": "/a"}], [{"op": "remove", "path": "/a" * 200}],
        [{"op": "remove", "path": "/a"}] * 10_001,
    ],
)  # fmt: skip
def test_what_is_no_patch_is_400(operations: Any) -> None:
    with pytest.raises(BadRequest):
        apply({"a": {"b": 1}}, operations)


def test_all_or_nothing() -> None:
    document = {"a": 1}
    with pytest.raises(Unprocessable):
        apply(document, [op("replace", "/a", value=2), op("test", "/a", value=1)])
    assert document == {"a": 1}


def test_malformed_operation_after_a_failing_one_is_400() -> None:
    with pytest.raises(BadRequest):
        apply({}, [op("remove", "/a"), {"op": "spam"}])


def test_values_of_the_patch_are_not_shared() -> None:
    operations = [
        op("add", "/a", value={"x": []}),
        op("add", "/a/x/-", value=1),
        op("copy", "/b", source="/a"),
        op("remove", "/b/x/0"),
    ]
    assert apply({}, operations) == {"a": {"x": [1]}, "b": {"x": []}}
    assert operations[0]["value"] == {"x": []}


def test_untouched_decimals_keep_their_literals() -> None:
    text = (
        b'{"resourceType":"Observation","valueQuantity":{"value":1.00},'
        b'"referenceRange":[{"low":{"value":1e-7}}],"status":"x"}'
    )
    result = apply(parse(text), parse(b'[{"op":"replace","path":"/status","value":2.50}]'))
    assert encode(result) == text.replace(b'"x"', b"2.50")


def test_copies_do_not_grow_without_bound() -> None:
    operations = [op("copy", f"/{n}", source="") for n in range(60)]
    with pytest.raises(Unprocessable):
        apply({"a": list(range(100))}, operations)
