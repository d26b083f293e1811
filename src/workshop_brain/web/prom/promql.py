"""PromQL as a tree: the part of the language that is answered, everything else is named.

Selectors with ``=``, ``!=``, ``=~``, ``!~``, ranges and ``offset``; the functions in ``FUNCTIONS``;
``sum avg min max count`` with ``by`` or ``without``; numbers; ``+ - * / % ^`` and comparisons
between numbers and vectors. Not answered: joins of two vectors, subqueries, ``@``, ``and or
unless``, other functions and aggregations.
"""

import re
from dataclasses import dataclass

from workshop_brain.units import NS_PER_DAY, NS_PER_H, NS_PER_MIN, NS_PER_MS, NS_PER_S

RANGE_FUNCTIONS = (
    "rate", "increase", "delta", "avg_over_time", "min_over_time", "max_over_time",
    "sum_over_time", "count_over_time", "last_over_time",
)  # fmt: skip
POINT_FUNCTIONS = ("abs", "ceil", "floor", "round")
FUNCTIONS = (*RANGE_FUNCTIONS, *POINT_FUNCTIONS, "time", "vector")
AGGREGATIONS = ("sum", "avg", "min", "max", "count")
COMPARISONS = ("==", "!=", "<=", "<", ">=", ">")
_MOST_TEXT = 10_000
_MOST_DEPTH = 60


class PromError(ValueError):
    """A query that cannot be understood or answered; ``kind`` as in the Prometheus API."""

    def __init__(self, message: str, kind: str = "bad_data") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label; ``op`` is ``=``, ``!=``, ``=~`` or ``!~``."""

    label: str
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class Number:
    """A scalar."""

    value: float


@dataclass(frozen=True, slots=True)
class Selector:
    """Series by their labels; ``range_ns`` 0 for an instant vector."""

    matchers: tuple[Matcher, ...]
    range_ns: int = 0
    offset_ns: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A function of one argument, or ``time()`` without."""

    name: str
    argument: "Node | None"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregation over series; ``by`` or else without the labels."""

    name: str
    argument: "Node"
    labels: tuple[str, ...]
    by: bool


@dataclass(frozen=True, slots=True)
class Binary:
    """An operation between two numbers, or a number and a vector."""

    op: str
    left: "Node"
    right: "Node"
    as_bool: bool


@dataclass(frozen=True, slots=True)
class Negative:
    """Unary minus."""

    argument: "Node"


Node = Number | Selector | Call | Aggregate | Binary | Negative

_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*\n?\s*)*(?:
    (?P<duration>(?:\d+(?:ms|[smhdwy]))+(?![a-zA-Z0-9_.]))
  | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![a-zA-Z0-9_]))
  | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
  | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
  | (?P<op>=~|!~|==|!=|<=|>=|[-+*/%^<>=(){}\[\],@:])
  | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_UNIT_NS = {
    "ms": NS_PER_MS, "s": NS_PER_S, "m": NS_PER_MIN, "h": NS_PER_H, "d": NS_PER_DAY,
    "w": 7 * NS_PER_DAY, "y": 365 * NS_PER_DAY,
}  # fmt: skip
_MOST_NS = 100 * 365 * NS_PER_DAY
_LEVELS = (COMPARISONS, ("+", "-"), ("*", "/", "%"))
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def duration_ns(text: str) -> int:
    """Length of a duration such as ``1h30m``; PromError when it is none.

    >>> duration_ns("1m30s")
    90000000000
    """
    parts = _PART.findall(text)
    if not parts or "".join(a + b for a, b in parts) != text:
        raise PromError(f"duration {text!r}: write 30s, 5m, 1h30m or 7d")
    total = sum(int(n) * _UNIT_NS[unit] for n, unit in parts)
    if not 0 < total <= _MOST_NS:
        raise PromError(f"duration {text!r}: must be above 0 and at most 100 years")
    return total


def parse(text: str) -> Node:
    """The tree of a query; PromError says where it ends to be understood."""
    if len(text) > _MOST_TEXT:
        raise PromError(f"query of {len(text)} characters: at most {_MOST_TEXT} are read")
    parser = _Parser(_tokens(text))
    node = parser.expression(0)
    parser.expect("end", "")
    return node


def _tokens(text: str) -> list[tuple[str, str, int]]:
    out, at = [], 0
    while True:
        found = _TOKEN.match(text, at)
        if found is None:
            raise PromError(f"parse error at character {at}: {text[at : at + 20]!r}")
        kind = str(found.lastgroup)
        out.append((kind, found[kind], found.start(kind)))
        if kind == "end":
            return out
        at = found.end()


class _Parser:
    """Recursive descent over tokens ``(kind, text, position)``."""

    def __init__(self, tokens: list[tuple[str, str, int]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at][:2]

    def _take(self) -> tuple[str, str]:
        token = self._tokens[self._at][:2]
        self._at += 1
        return token

    def _fail(self, wanted: str) -> PromError:
        kind, text, position = self._tokens[self._at]
        got = "the end" if kind == "end" else repr(text)
        return PromError(f"parse error at character {position}: {got}, expected {wanted}")

    def _accept(self, text: str) -> bool:
        if self._peek() == ("op", text):
            self._at += 1
            return True
        return False

    def _word(self, word: str) -> bool:
        kind, text = self._peek()
        return kind == "name" and text.lower() == word

    def expect(self, kind: str, text: str) -> None:
        if self._peek() != (kind, text):
            raise self._fail("the end of the query" if kind == "end" else repr(text))
        self._at += 1

    def expression(self, level: int) -> Node:
        """Operators of a level and all that bind more strongly."""
        self._depth += 1
        if self._depth > _MOST_DEPTH * len(_LEVELS):
            raise PromError("the query is nested too deeply")
        node = self._unary() if level == len(_LEVELS) else self._chain(level)
        self._depth -= 1
        return node

    def _chain(self, level: int) -> Node:
        node = self.expression(level + 1)
        while True:
            kind, op = self._peek()
            if level == 0 and kind == "name" and op.lower() in ("and", "or", "unless", "atan2"):
                raise PromError(f"operator {op!r} is not answered; {_answered()}")
            if kind != "op" or op not in _LEVELS[level]:
                return node
            self._at += 1
            as_bool = level == 0 and self._word("bool")
            if as_bool:
                self._at += 1
            self._no_matching()
            node = Binary(op, node, self.expression(level + 1), as_bool)

    def _no_matching(self) -> None:
        for word in ("on", "ignoring", "group_left", "group_right"):
            if self._word(word):
                raise PromError(f"{word!r}: joins of two vectors are not answered; {_answered()}")

    def _unary(self) -> Node:
        if self._accept("+"):
            return self.expression(len(_LEVELS))
        if self._accept("-"):
            return Negative(self.expression(len(_LEVELS)))
        node = self._postfix()
        if self._accept("^"):
            self._no_matching()
            return Binary("^", node, self.expression(len(_LEVELS)), as_bool=False)
        return node

    def _postfix(self) -> Node:
        node = self._primary()
        if self._accept("["):
            kind, text = self._take()
            if kind != "duration":
                self._at -= 1
                raise self._fail("a duration such as 5m")
            if self._peek()[1].startswith(":"):
                raise PromError(f"subqueries [range:step] are not answered; {_answered()}")
            self.expect("op", "]")
            if not isinstance(node, Selector):
                raise PromError("a range [..] must follow a selector; subqueries are not answered")
            node = Selector(node.matchers, duration_ns(text))
        if self._word("offset"):
            node = self._offset(node)
        if self._peek() == ("op", "@"):
            raise PromError(f"the modifier @ is not answered; {_answered()}")
        return node

    def _offset(self, node: Node) -> Node:
        self._at += 1
        sign = -1 if self._accept("-") else 1
        kind, text = self._take()
        if kind != "duration":
            self._at -= 1
            raise self._fail("a duration such as 5m")
        if not isinstance(node, Selector):
            raise PromError("offset must follow a selector")
        return Selector(node.matchers, node.range_ns, sign * duration_ns(text))

    def _primary(self) -> Node:
        kind, text = self._peek()
        if kind == "number":
            self._at += 1
            return Number(float(int(text, 16)) if text[:2].lower() == "0x" else float(text))
        if self._accept("("):
            node = self.expression(0)
            self.expect("op", ")")
            return node
        if self._peek() == ("op", "{"):
            return Selector(self._matchers(""))
        if kind != "name":
            raise self._fail("a selector, a number or a function")
        return self._named(text)

    def _named(self, name: str) -> Node:
        self._at += 1
        if name.lower() in ("inf", "nan"):
            return Number(float(name))
        follows = self._peek()
        if name.lower() in AGGREGATIONS and (
            follows == ("op", "(") or self._word("by") or self._word("without")
        ):
            return self._aggregate(name.lower())
        if follows == ("op", "("):
            return self._call(name)
        if follows[0] == "name" and follows[1].lower() in ("by", "without"):
            raise PromError(f"unknown aggregation {name!r}; {_answered()}")
        return Selector(self._matchers(name))

    def _call(self, name: str) -> Node:
        if name not in FUNCTIONS:
            raise PromError(f"unknown function {name!r}; {_answered()}")
        self.expect("op", "(")
        if name == "time":
            self.expect("op", ")")
            return Call(name, None)
        argument = self.expression(0)
        if self._peek() == ("op", ","):
            raise PromError(f"function {name!r} takes one argument here")
        self.expect("op", ")")
        is_range = isinstance(argument, Selector) and argument.range_ns > 0
        if is_range != (name in RANGE_FUNCTIONS):
            wanted = "a range vector, such as x[5m]" if not is_range else "no range vector"
            raise PromError(f"function {name!r} takes {wanted}")
        return Call(name, argument)

    def _aggregate(self, name: str) -> Node:
        grouping = self._grouping()
        self.expect("op", "(")
        argument = self.expression(0)
        self.expect("op", ")")
        labels, by = grouping or self._grouping() or ((), True)
        return Aggregate(name, argument, labels, by)

    def _grouping(self) -> tuple[tuple[str, ...], bool] | None:
        by = self._word("by")
        if not by and not self._word("without"):
            return None
        self._at += 1
        self.expect("op", "(")
        labels: list[str] = []
        while not self._accept(")"):
            kind, text = self._take()
            if kind != "name" or not _LABEL.fullmatch(text):
                self._at -= 1
                raise self._fail("a label")
            labels.append(text)
            if not self._accept(","):
                self.expect("op", ")")
                break
        return tuple(labels), by

    def _matchers(self, name: str) -> tuple[Matcher, ...]:
        found = [Matcher("__name__", "=", name)] if name else []
        if self._accept("{"):
            while not self._accept("}"):
                found.append(self._matcher())
                if not self._accept(","):
                    self.expect("op", "}")
                    break
        if not any(_must_have(m) for m in found):
            raise PromError(
                "a selector needs a name or at least one condition that an empty label fails"
            )
        return tuple(found)

    def _matcher(self) -> Matcher:
        kind, label = self._take()
        if kind != "name" or not _LABEL.fullmatch(label):
            self._at -= 1
            raise self._fail("a label")
        kind, op = self._take()
        if kind != "op" or op not in ("=", "!=", "=~", "!~"):
            self._at -= 1
            raise self._fail("=, !=, =~ or !~")
        kind, text = self._take()
        if kind != "text":
            self._at -= 1
            raise self._fail("a text in quotes")
        return Matcher(label, op, _unquote(text))


def _must_have(matcher: Matcher) -> bool:
    """Whether a series without the label fails."""
    if matcher.op == "=":
        return matcher.value != ""
    if matcher.op == "!=":
        return matcher.value == ""
    from workshop_brain.web.prom.labels import matching

    return not bool(matching(matcher, [""])[0])


def _unquote(text: str) -> str:
    body = text[1:-1]
    if text[0] == "`":
        return body
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), body)


def _answered() -> str:
    return (
        f"answered are selectors, offset, {', '.join(FUNCTIONS)}, {', '.join(AGGREGATIONS)} by or "
        "without labels, and arithmetic or comparison with numbers"
    )
