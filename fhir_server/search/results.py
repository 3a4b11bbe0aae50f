"""How results are wanted: ``_sort``, ``_count``, ``_include``, ``_summary``. R4 search.html 3.1.1.5."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from fhir_server.errors import BadRequest, Issue, NotSupported
from fhir_server.search.ast import Include, Node, Search, Select, SortKey
from fhir_server.search.criteria.plans import Context, Types, Unknown, bad
from fhir_server.search.parse import split_values
from fhir_server.search.registry import Param

MAX_SORT_KEYS: Final = 10
"""Different keys of one ``_sort``; more are refused as too costly."""

RESULT_PARAMETERS: Final = frozenset(
    {
        "_sort", "_count", "_include", "_revinclude", "_summary", "_elements", "_total", "_contained", "_containedType",
        "_explain", "_format", "_pretty",
    }
)  # fmt: skip

_WORDS: Final = ("_text", "_content")
"""Parameters whose entries are the words of a text, which have no order of their own."""

_SORT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]{0,63}", re.ASCII)
_SUMMARIES: Final = ("true", "text", "data", "count", "false")


@dataclass(frozen=True, slots=True)
class Shape:
    """How the answer is wanted. `summary`, `total`, `contained`, `contained_type`: codes of R4, None when not given."""

    summary: str | None = None
    elements: tuple[str, ...] = ()
    total: str | None = None
    contained: Literal["false", "true", "both"] = "false"
    contained_type: Literal["container", "contained"] = "container"
    explain: bool = False
    count_only: bool = False


USUAL: Final = Shape()
"""The shape of an answer when no parameter says how it is wanted."""


class Options:
    """`_sort`, `_count`, `_include` and their kin: R4 search.html#3.1.1.5."""

    def __init__(
        self, context: Context, types: Types, strict: bool, issues: list[Issue], applied: list[tuple[str, str]]
    ) -> None:
        self.context, self.types, self.strict, self.issues, self.applied = context, types, strict, issues, applied
        self.registry = context.registry
        self.sort: list[SortKey] = []
        self.includes: list[Include] = []
        self.count = context.settings.default_count
        self.shape: dict[str, Any] = {}
        self.seen: set[str] = set()

    def take(self, name: str, value: str) -> None:
        code, _, modifier = name.partition(":")
        if code in ("_include", "_revinclude"):
            if modifier not in ("", "iterate", "recurse"):
                raise NotSupported(f"`{code}` does not support the modifier that it was given.")
            for one in split_values(value):
                self._include(code, one, bool(modifier))
            return
        if modifier:
            raise NotSupported(f"`{code}` does not support modifiers.")
        if code in self.seen and code not in ("_sort", "_elements"):
            raise BadRequest(f"`{code}` was given more than once.", code="value")
        self.seen.add(code)
        match code:
            case "_sort":
                for rule in split_values(value):
                    self._sort(rule)
            case "_count":
                self._count(value)
            case "_summary":
                self.shape["summary"] = self._choice(code, value, _SUMMARIES)
                if value == "count":
                    self.shape["count_only"] = True
            case "_total":
                self.shape["total"] = self._choice(code, value, ("none", "estimate", "accurate"))
            case "_contained":
                self.shape["contained"] = self._choice(code, value, ("false", "true", "both"))
            case "_containedType":
                self.shape["contained_type"] = self._choice(code, value, ("container", "contained"))
            case "_elements":
                self.shape["elements"] = (*self.shape.get("elements", ()), *split_values(value))
            case "_explain":
                self.shape["explain"] = self._choice(code, value, ("true", "false")) == "true"
            case _:
                # _format and _pretty were understood where the request was read.
                return

    def _choice(self, code: str, value: str, allowed: tuple[str, ...]) -> str:
        if value not in allowed:
            raise bad(f"`{code}` is one of {', '.join(f'`{one}`' for one in allowed)}.")
        return value

    def _count(self, value: str) -> None:
        if not value.isascii() or not value.isdigit():
            raise bad("`_count` is a number that is not negative.")
        wanted = int(value) if len(value) < 10 else 10**9
        if wanted == 0:
            self.shape["count_only"] = True
        maximum = self.context.settings.max_count
        if wanted > maximum:
            at = self.applied.index(("_count", value))
            self.applied[at] = ("_count", str(maximum))
        self.count = min(wanted, maximum)

    def _sort(self, rule: str) -> None:
        descending = rule.startswith("-")
        code = rule[1:] if descending else rule
        if code in ("_id", "_lastUpdated"):
            self._sort_by(SortKey((), "id" if code == "_id" else "updated", descending))
            return
        if not _SORT_NAME.fullmatch(code):
            raise bad("`_sort` names search parameters, each after `-` to descend, with commas between them.")
        try:
            found = self.context.param(self.types, code)
        except Unknown as unknown:
            if self.strict:
                raise BadRequest(str(unknown), code="not-supported") from None
            self.issues.append(Issue("warning", "not-supported", f"{unknown} It was ignored in `_sort`."))
            self._unapply(rule)
            return
        params = found if isinstance(found, list) else [found]
        for param in params:
            self.context.check_ready(param)
            ordered = param.type not in ("composite", "special") and param.usage != "phonetic" and code not in _WORDS
            if not ordered or not param.numbers:
                raise BadRequest(f"Results cannot be sorted by `{code}`.", code="not-supported")
        shapes = {param.shape for param in params}
        if len(shapes) > 1:
            raise BadRequest(f"Results of these types cannot be sorted by `{code}` together.", code="not-supported")
        numbers = tuple(number for param in params for number in param.numbers)
        restricted = {param.restrict for param in params}
        # A view such as `patient` has the entries of `subject`; only those of its type are its values.
        prefix = f"{restricted.pop()}/" if len(restricted) == 1 and "" not in restricted else ""
        self._sort_by(SortKey(numbers, shapes.pop(), descending, prefix))

    def _sort_by(self, key: SortKey) -> None:
        """Adds a key; one that repeats an earlier one changes no order."""
        if any((one.params, one.shape, one.prefix) == (key.params, key.shape, key.prefix) for one in self.sort):
            return
        if len(self.sort) == MAX_SORT_KEYS:
            raise BadRequest(f"Results can be sorted by {MAX_SORT_KEYS} parameters at most.", code="too-costly")
        self.sort.append(key)

    def _unapply(self, rule: str) -> None:
        """Takes a rule that was ignored out of what `self` shows."""
        for at, (name, value) in enumerate(self.applied):
            if name == "_sort" and rule in split_values(value):
                rest = [one for one in split_values(value) if one != rule]
                self.applied[at : at + 1] = [("_sort", ",".join(rest))] if rest else []
                return

    def _include(self, name: str, value: str, iterate: bool) -> None:
        reverse = name == "_revinclude"
        parts = value.split(":")
        if len(parts) > 3 or not parts[0]:
            raise bad(f"`{name}` is written `Type:parameter` or `Type:parameter:TargetType`.")
        every = value == "*" or (len(parts) >= 2 and parts[1] == "*")
        source_type = None if parts[0] == "*" else parts[0]
        target = parts[2] if len(parts) == 3 and parts[2] else None
        for one in (source_type, target):
            if one is not None and one not in self.registry.types:
                raise bad(f"`{name}` names a resource type that R4 does not have.")
        if not every and (source_type is None or len(parts) == 1):
            raise bad(f"`{name}` is written `Type:parameter` or `Type:parameter:TargetType`.")
        if every:
            params = self._all_references(source_type, reverse)
        else:
            assert source_type is not None
            param = self.registry.param(source_type, parts[1])
            if param is None or param.type != "reference":
                raise BadRequest(
                    f"`{parts[1]}` is not a reference parameter of {source_type}."
                    if re.fullmatch(r"[A-Za-z_\-]{1,64}", parts[1])
                    else f"`{name}` names no reference parameter of {source_type}.",
                    code="not-supported",
                )
            self.context.check_ready(param)
            if target is not None and target not in param.targets:
                raise bad(f"`{parts[1]}` of {source_type} does not refer to {target}.")
            params = [param]
        self._add_include(params, source_type, target, reverse, iterate)

    def _all_references(self, source_type: str | None, reverse: bool) -> list[Param]:
        if source_type is not None:
            names: tuple[str, ...] = (source_type,)
        elif reverse or self.types is None:
            names = self.registry.types
        else:
            names = self.types
        wanted = set(self.types) if reverse and self.types is not None else None
        return [
            param
            for name in names
            for param in self.registry.params(name).values()
            if param.type == "reference" and param.ready and (wanted is None or wanted & set(param.targets))
        ]

    def _add_include(
        self, params: list[Param], source_type: str | None, target: str | None, reverse: bool, iterate: bool
    ) -> None:
        numbers = tuple(dict.fromkeys(number for param in params for number in param.numbers))
        if not numbers:
            return
        if reverse:
            names = tuple(dict.fromkeys(param.type_name for param in params))
            everyone = len(names) == len(self.registry.types)
            # A view such as `patient` repeats `subject`: what it points at is restricted by the type.
            restrict = {param.restrict for param in params}
            pointed = (
                (target,) if target else (restrict.copy().pop(),) if len(restrict) == 1 and "" not in restrict else None
            )
            self.includes.append(Include(pointed, numbers, Select(None if everyone else names), True, iterate))
            return
        sources = (source_type,) if source_type else self.types
        targets = {one for param in params for one in ((param.restrict,) if param.restrict else param.targets)}
        wanted: Types = (target,) if target else tuple(sorted(targets))
        if wanted is not None and len(wanted) == len(self.registry.types):
            wanted = None
        self.includes.append(Include(sources, numbers, Select(wanted), False, iterate))

    def search(self, where: Node) -> tuple[Search, Shape]:
        shape = Shape(**self.shape)
        settings = self.context.settings
        mode: Literal["no", "only", "both"] = {"false": "no", "true": "only", "both": "both"}[shape.contained]  # type: ignore[assignment]
        count_only = shape.count_only
        found = Search(
            Select(self.types, where, mode),
            sort=() if count_only else tuple(self.sort),
            count=0 if count_only else self.count,
            total=count_only or shape.total in ("estimate", "accurate"),
            includes=() if count_only else tuple(self.includes),
            include_limit=settings.include_limit,
            include_depth=settings.include_depth,
            chain_limit=settings.chain_limit,
            containers=mode != "no" and shape.contained_type == "container",
        )
        return found, shape
