"""The plant file with what was found: written small, merged into what is there. Pure.

An existing file is only ever added to. What comes out is parsed again and compared: everything that
stood in it still means what it meant, or nothing is written.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workshop_brain.errors import ConfigError

Table = dict[str, Any]
_HEADER = re.compile(r"^\s*\[\[?\s*([A-Za-z0-9_\-.\" ]+?)\s*\]\]?\s*(#.*)?$")
_ROW_KEYS = {"override": "match", "topic": "topic", "tag": "path"}
"""Arrays of tables of a source, and the key that tells whether a row is there already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A plant file to be written.

    Attributes
    ----------
    id
        Of the source, as it stands in the file.
    is_new
        Whether the source was not in the file.
    added
        Rows put into a source that was there.
    differs
        Keys of the source that stand in the file with other values than proposed: they stay.
    """

    text: str
    id: str
    is_new: bool
    added: list[tuple[str, Table]]
    differs: dict[str, tuple[Any, Any]]


def source_id(text: str, protocol: str, url: str, wanted: str, *, origin: str) -> str:
    """Id of the source with this address in a plant file, else one that is free.

    >>> source_id("", "opcua", "opc.tcp://plc7:4840", "", origin="t")
    'plc7'
    """
    sources = _sources(_parsed(text, origin))
    at = _place(sources, protocol, url)
    if at is not None:
        return str(sources[at].get("id", ""))
    taken = {str(row.get("id")) for row in sources}
    base = wanted or _word(url) or protocol
    for name in (base, f"{base}_{protocol}", *(f"{base}_{n}" for n in range(2, 1000))):
        if name not in taken:
            return name
    raise ConfigError(f"{origin}: no free id like {base!r}; give one with --id")


def merged(text: str, table: Table, *, id: str, plant: Table, origin: str) -> Draft:
    """The plant file with the source in it; ConfigError when it cannot be added safely."""
    before = _parsed(text, origin)
    at = _place(_sources(before), table["protocol"], table["url"])
    if at is None:
        head = "" if before else f"{_block('[plant]', plant)}\n"
        body = f"{text.rstrip()}\n\n" if text.strip() else ""
        out = f"{body}{head}{block({'id': id, **table})}"
        draft = Draft(text=out, id=id, is_new=True, added=[], differs={})
    else:
        draft = _extended(text, before, at, table)
    _check(before, draft, table, at, origin)
    return draft


def block(table: Mapping[str, Any]) -> str:
    """``[[source]]`` with its keys and rows as TOML text."""
    rows = {k: v for k, v in table.items() if k in _ROW_KEYS}
    parts = [_block("[[source]]", {k: v for k, v in table.items() if k not in rows})]
    parts += [_block(f"[[source.{key}]]", row) for key, many in rows.items() for row in many]
    return "\n".join(parts)


def _parsed(text: str, origin: str) -> Table:
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{origin}: not valid TOML: {error}") from error


def _sources(data: Table) -> list[Table]:
    rows = data.get("source", [])
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _place(sources: Sequence[Table], protocol: str, url: str) -> int | None:
    for i, row in enumerate(sources):
        if row.get("protocol") == protocol and str(row.get("url", "")).rstrip("/") == url.rstrip(
            "/"
        ):
            return i
    return None


def _word(url: str) -> str:
    """A name from the host of an address; "" when that is only a number or this computer."""
    host = re.sub(r"^[a-z.+]+://", "", url).split("/")[0].rsplit("@", 1)[-1].rsplit(":", 1)[0]
    if host == "localhost" or re.fullmatch(r"[0-9.]+|\[.*", host):
        return ""
    return re.sub(r"[^a-z0-9_-]+", "_", host.split(".")[0].lower()).strip("_")[:40]


# --- an existing source ---


def _extended(text: str, before: Table, at: int, table: Table) -> Draft:
    own = _sources(before)[at]
    added: list[tuple[str, Table]] = []
    for key, identity in _ROW_KEYS.items():
        present = [row for row in own.get(key, []) if isinstance(row, dict)]
        known = {json.dumps(row.get(identity)) for row in present}
        added += [
            (key, row)
            for row in table.get(key, [])
            if not _is_covered(key, row, present) and json.dumps(row.get(identity)) not in known
        ]
    lines = text.splitlines(keepends=True)
    if added:
        end = _end_of_source(lines, at)
        if end and not lines[end - 1].endswith("\n"):
            lines[end - 1] += "\n"
        news = "\n".join(_block(f"[[source.{key}]]", row) for key, row in added)
        lines.insert(end, f"\n{news}" if end == len(lines) else f"{news}\n")
    differs = {
        key: (own.get(key), value)
        for key, value in table.items()
        if key not in _ROW_KEYS and own.get(key) != value
    }
    return Draft(
        text="".join(lines), id=str(own.get("id", "")), is_new=False, added=added, differs=differs
    )


def _is_covered(key: str, row: Table, present: Sequence[Table]) -> bool:
    """A topic filter of the file that already reads what the row would read."""
    if key != "topic":
        return False
    first = str(row["topic"]).split("/")[0]
    return any(str(p.get("topic", "")).split("/")[0] in (first, "#", "+") for p in present)


def _end_of_source(lines: Sequence[str], at: int) -> int:
    """Line behind the n-th ``[[source]]`` and its rows."""
    seen = -1
    for n, line in enumerate(lines):
        header = _HEADER.match(line)
        if not header:
            continue
        name = header[1].replace(" ", "")
        if name == "source":
            seen += 1
            if seen > at:
                return n
        elif seen == at and not name.startswith("source."):
            return n
    return len(lines)


def _check(before: Table, draft: Draft, table: Table, at: int | None, origin: str) -> None:
    """What stood in the file still stands there, and what was added is what was meant."""
    expected = json.loads(json.dumps(before, default=str))
    if at is None:
        if not before:
            expected["plant"] = None
        own = {k: v for k, v in table.items() if v or k not in _ROW_KEYS}
        expected.setdefault("source", []).append({"id": draft.id, **own})
    else:
        for key, row in draft.added:
            expected["source"][at].setdefault(key, []).append(row)
    try:
        after = json.loads(
            json.dumps(tomllib.loads(draft.text.removeprefix("\ufeff")), default=str)
        )
    except (ValueError, RecursionError) as error:
        raise ConfigError(_by_hand(origin, table, draft.id, str(error))) from error
    if not before:
        after["plant"] = None
    if after != json.loads(json.dumps(expected)):
        raise ConfigError(_by_hand(origin, table, draft.id, "it is laid out in another way"))


def _by_hand(origin: str, table: Table, id: str, why: str) -> str:
    return (
        f"{origin}: nothing was written, for the source cannot be added without touching the rest "
        f"({why}); put this there by hand:\n{block({'id': id, **table})}"
    )


# --- TOML text ---


def _block(header: str, table: Mapping[str, Any]) -> str:
    lines = [header, *(f"{_key(key)} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    """A value as TOML.

    >>> _value(["a", True, 2.5]), _value({"x": 1})
    ('["a", true, 2.5]', '{ x = 1 }')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if len(value) > 4:
        return "[\n" + "".join(f"  {_value(v)},\n" for v in value) + "]"
    return "[" + ", ".join(_value(v) for v in value) + "]"
