"""Runtime values of FHIRPath: items, the evaluation environment, conversion, equality, equivalence and order.

FHIRPath N1, section 4 (singleton evaluation), 6.1 (equality), 6.2 (comparison). Where the type is known at compile
time, a collection is a plain list of JSON values; an Item wraps a value only where its type is found at run time, or
where a primitive has an id or extensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from fhir_server.fhirpath.dates import Temporal, parse_temporal
from fhir_server.fhirpath.errors import BudgetExceeded, FhirPathError
from fhir_server.fhirpath.model import TEMPORAL, is_primitive, is_subtype, json_members
from fhir_server.fhirpath.quantities import Quantity, from_element

#: Enough for R4's decimals and their products; never the thread's own context, which others may change.
ARITHMETIC = Context(prec=80, rounding=ROUND_HALF_UP, Emax=9999, Emin=-9999)
MAX_TEXT = 4_000_000
UNLIMITED = 1 << 60


class Item:
    """One element of a collection with what evaluation knows of it.

    value    JSON value (dict, str, int, Decimal, bool; None for a primitive that has only extensions) or a system value
             (Temporal, Quantity, str, ...)
    type     "Quantity", "string", "Patient.contact" for a backbone element; "System.String" for system values
    element  the ``_name`` sibling of a primitive ({"id": ..., "extension": [...]}), or None
    parent, key, index   where it was found: ``parent.value[key]`` or ``parent.value[key][index]``; None when not
                         tracked
    """

    __slots__ = ("element", "index", "key", "parent", "type", "value")

    def __init__(
        self,
        value: Any,
        type: str,
        element: dict[str, Any] | None = None,
        parent: Item | None = None,
        key: str | None = None,
        index: int | None = None,
    ) -> None:
        self.value = value
        self.type = type
        self.element = element
        self.parent = parent
        self.key = key
        self.index = index

    def __repr__(self) -> str:
        return f"Item({self.value!r}, {self.type!r})"

    @property
    def path(self) -> str:
        """FHIRPath of the place, such as "Patient.name[0].given[1]"; only the type when it was not tracked."""
        steps: list[str] = []
        item = self
        while item.parent is not None and item.key is not None:
            known = json_members(item.parent.type).get(item.key)
            name = known[0].name if known else item.key
            steps.append(name if item.index is None else f"{name}[{item.index}]")
            item = item.parent
        steps.append(item.type)
        return ".".join(reversed(steps))


class Environment:
    """What an evaluation may look at besides its focus. Make one per resource and use it for all its expressions.

    Sub-expressions that depend on %resource and %rootResource alone are evaluated once per Environment, so the resource
    must not change while it is in use. Not for several threads at once.

    resource     %resource, the resource that contains the focus
    root         %rootResource, the resource that contains %resource, when that is contained; else the same
    variables    further %names: plain values or Items, or lists of them
    resolve      reference text -> resource or None, for resolve(); contained resources are found without it
    now          the moment of now(), today() and timeOfDay(), with a zone; the system's clock by default
    member_of, conforms_to, subsumes    terminology and profiles; without them the functions return the empty collection
    html_checks  narrative XHTML -> acceptable; without it htmlChecks() is true
    steps        how many elements may be visited before BudgetExceeded; None for no limit
    """

    __slots__ = (
        "conforms_to", "context", "html_checks", "index", "member_of", "memo", "moment", "now", "resolve", "resource",
        "root", "steps", "subsumes", "total", "variables",
    )  # fmt: skip

    def __init__(
        self,
        resource: dict[str, Any] | None = None,
        root: dict[str, Any] | None = None,
        *,
        variables: Mapping[str, Any] | None = None,
        resolve: Callable[[str], dict[str, Any] | None] | None = None,
        now: datetime | Callable[[], datetime] | None = None,
        member_of: Callable[[Item, str], bool | None] | None = None,
        conforms_to: Callable[[Item, str], bool | None] | None = None,
        subsumes: Callable[[Item, Item], bool | None] | None = None,
        html_checks: Callable[[str], bool] | None = None,
        steps: int | None = None,
    ) -> None:
        self.resource = resource
        self.root = resource if root is None else root
        self.variables = variables
        self.resolve = resolve
        self.now = now
        self.member_of = member_of
        self.conforms_to = conforms_to
        self.subsumes = subsumes
        self.html_checks = html_checks
        self.steps = UNLIMITED if steps is None else steps
        self.context: Any = None
        self.index: int | None = None
        self.total: list[Any] = []
        self.memo: dict[Any, Any] = {}
        self.moment: datetime | None = None

    def clock(self) -> datetime:
        """The same moment for the whole evaluation (N1, 5.9.3: now() is deterministic within an expression)."""
        if self.moment is None:
            now = self.now
            self.moment = datetime.now(UTC) if now is None else now if isinstance(now, datetime) else now()
        return self.moment

    def spend(self, count: int) -> None:
        """Count `count` visited elements against the budget."""
        self.steps -= count
        if self.steps < 0:
            raise BudgetExceeded


# --- types and conversion ---------------------------------------------------------------------------------------------


def system_type(value: Any) -> str:
    """The name of a system value's type, such as "System.String"."""
    if isinstance(value, bool):
        return "System.Boolean"
    if isinstance(value, int):
        return "System.Integer"
    if isinstance(value, Decimal):
        return "System.Decimal"
    if isinstance(value, Temporal):
        return f"System.{value.kind}"
    if isinstance(value, Quantity):
        return "System.Quantity"
    return "System.String"


def to_item(value: Any) -> Item:
    """An Item for a variable's value: Items stay, resources get their type, everything else is a system value."""
    if isinstance(value, Item):
        return value
    if isinstance(value, dict):
        return Item(value, str(value.get("resourceType", "Element")))
    return Item(value, system_type(value))


def system_value(item: Item) -> Any:
    """The system value of an Item (R4 fhirpath.html, implicit conversion); complex elements but Quantity stay dicts."""
    value = item.value
    kind = TEMPORAL.get(item.type)
    if kind is not None:
        return parse_temporal(value, kind) if isinstance(value, str) else value
    if value.__class__ is dict and is_subtype(item.type, "Quantity"):
        return quantity_value(value)
    return value


def quantity_value(value: dict[str, Any]) -> Any:
    """The Quantity of a FHIR Quantity; with a comparator it is no number, and stays a dict."""
    if "comparator" in value:
        return value
    quantity = from_element(value)
    return value if quantity is None else quantity


def converter(type_name: str | None) -> Callable[[Any], Any]:
    """From a collection's element of the given compile-time type (None: Items) to its system value."""
    if type_name is None:
        return system_value
    if type_name == "System":
        return lambda value: value
    kind = TEMPORAL.get(type_name)
    if kind is not None:

        def convert_temporal(value: Any) -> Any:
            text = value.value if value.__class__ is Item else value
            return None if text is None else parse_temporal(text, kind)

        return convert_temporal
    if is_primitive(type_name):
        return lambda value: value.value if value.__class__ is Item else value
    if is_subtype(type_name, "Quantity"):
        return quantity_value
    return lambda value: value


# --- equality ---------------------------------------------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def _as_quantity(value: Any) -> Quantity | None:
    if isinstance(value, Quantity):
        return value
    return Quantity(Decimal(value)) if _is_number(value) else None


def equal(left: Any, right: Any) -> bool | None:
    """``=`` on two system values or complex elements; None when undetermined (N1, 6.1.1)."""
    if left is None or right is None:
        return None
    kind = left.__class__
    if kind is right.__class__:
        if kind is str:
            return bool(left == right)
        if kind is Temporal:
            order = left.compare(right)
            if order is None and (left.kind == "Time") != (right.kind == "Time"):
                return False
            return None if order is None else order == 0
        if kind is Quantity:
            order = left.compare(right)
            return None if order is None else order == 0
        if kind is dict:
            return same(left, right)
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if _is_number(left) and _is_number(right):
        return bool(left == right)
    if isinstance(left, Quantity) or isinstance(right, Quantity):
        a, b = _as_quantity(left), _as_quantity(right)
        if a is None or b is None:
            return False
        order = a.compare(b)
        return None if order is None else order == 0
    return False


def same(left: Any, right: Any) -> bool:
    """Deep equality of JSON, in which true is not 1."""
    if left.__class__ is dict:
        if right.__class__ is not dict or left.keys() != right.keys():
            return False
        return all(same(value, right[key]) for key, value in left.items())
    if left.__class__ is list:
        return right.__class__ is list and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def _places(value: int | Decimal) -> int:
    if isinstance(value, int):
        return 0
    # N1: trailing zeroes do not count as precision in equivalence.
    exponent = value.normalize(ARITHMETIC).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def round_to(value: int | Decimal, places: int) -> Decimal:
    """`value` with at most `places` digits after the point, halves away from zero."""
    return Decimal(value).quantize(Decimal(1).scaleb(-places), context=ARITHMETIC)


def equivalent(left: Any, right: Any) -> bool:
    """``~`` on two system values or complex elements (N1, 6.1.3)."""
    if left is None or right is None:
        return left is right
    if isinstance(left, str) and isinstance(right, str):
        return " ".join(left.casefold().split()) == " ".join(right.casefold().split())
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if _is_number(left) and _is_number(right):
        places = min(_places(left), _places(right))
        return round_to(left, places) == round_to(right, places)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equivalent(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return equivalent_lists(left, right)
    if isinstance(left, Quantity) or isinstance(right, Quantity):
        a, b = _as_quantity(left), _as_quantity(right)
        if a is None or b is None:
            return False
        left_value, left_unit = a.canonical()
        right_value, right_unit = b.canonical()
        return left_unit == right_unit and equivalent(left_value, right_value)
    return equal(left, right) is True


def equivalent_lists(left: list[Any], right: list[Any]) -> bool:
    """Two collections of system values are equivalent in any order."""
    if len(left) != len(right):
        return False
    rest = list(right)
    for value in left:
        for position, candidate in enumerate(rest):
            if equivalent(value, candidate):
                del rest[position]
                break
        else:
            return False
    return True


def order(left: Any, right: Any, operator: str) -> int | None:
    """-1, 0, 1 or None (undetermined) for ``<`` and its kin. Raises FhirPathError for types that have no order."""
    if left is None or right is None:
        return None
    if (isinstance(left, str) and isinstance(right, str)) or (_is_number(left) and _is_number(right)):
        return (left > right) - (left < right)
    if isinstance(left, Temporal) and isinstance(right, Temporal):
        if (left.kind == "Time") != (right.kind == "Time"):
            raise FhirPathError(f"The operands of `{operator}` have different types.")
        return left.compare(right)
    if isinstance(left, Quantity) or isinstance(right, Quantity):
        a, b = _as_quantity(left), _as_quantity(right)
        if a is not None and b is not None:
            return a.compare(b)
    if {type(left), type(right)} in ({dict}, {dict, Quantity}):
        # A Quantity without a value, or with a comparator, has no place in an order; R4's rng-2 meets both.
        return None
    raise FhirPathError(f"The operands of `{operator}` have types that cannot be compared.")


def freeze(value: Any) -> Any:
    """A hashable key that is equal exactly for values that are `equal`: the basis of distinct() and the set
    operations."""
    kind = value.__class__
    if kind is str:
        return value
    if isinstance(value, bool):
        return (bool, value)
    if kind is dict:
        return (dict, frozenset((key, freeze(each)) for key, each in value.items()))
    if kind is list:
        return (list, tuple(map(freeze, value)))
    if isinstance(value, Quantity):
        return (Quantity, value.canonical())
    return value


def unique(values: Iterable[Any], convert: Callable[[Any], Any]) -> list[Any]:
    """The first of each group of equal elements, in order."""
    values = list(values)
    if len(values) < 4 and all(value.__class__ is dict and convert(value) is value for value in values):
        # A few large elements, as in R4's ``(snapshot | differential)``: comparing ends at the first difference.
        few: list[Any] = []
        for value in values:
            if not any(same(value, other) for other in few):
                few.append(value)
        return few
    seen: set[Any] = set()
    found: list[Any] = []
    for value in values:
        key = freeze(convert(value))
        if key not in seen:
            seen.add(key)
            found.append(value)
    return found


def text_of(value: Any) -> str | None:
    """toString() of a system value; None for what has no text (complex elements). Decimals never have an exponent."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() and abs(value.adjusted()) < 2000 else None
    if isinstance(value, Temporal):
        return value.text
    if isinstance(value, Quantity):
        return str(value)
    return None
