"""The form of a reactive-fjsp/1 document: which fields stand where, and of what kind they are.

What is wrong is named with its place, so that nobody has to look for it among thousands of jobs.
A field that nobody reads is refused: it is a slip of the pen, and a plan without it would be wrong.
"""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from workshop_brain.errors import OrderError

_NOTES = frozenset(("name", "comment", "description", "notes"))
"""Fields for people, allowed anywhere."""
_NEEDS = ("tools", "skills", "setup_tools", "setup_skills")
_LINK = ("lag", "max_lag", "buffer")
_TOP = _NOTES | {
    "format", "machines", "setup", "jobs", "tools", "operators", "buffers", "tariff",
    "maintenance", "timezone",
}  # fmt: skip
_MACHINE = _NOTES | {
    "id", "work_center", "available_from", "family", "closed", "resumable", "power_kw", "batch",
    *_NEEDS,
}  # fmt: skip
_JOB = _NOTES | {"id", "family", "release", "due", "weight", "operations", "deadline"}
_OP = _NOTES | {"alternatives", "after", "deadline", "size", *_LINK, *_NEEDS}
_AFTER = _NOTES | {"op", "job", *_LINK}
_LISTS: tuple[tuple[str, frozenset[str], tuple[str, ...]], ...] = (
    ("machines", frozenset(_MACHINE), ("id", "work_center")),
    ("tools", _NOTES | {"id", "quantity", "closed"}, ("id",)),
    ("operators", _NOTES | {"id", "skills", "closed"}, ("id", "skills")),
    ("buffers", _NOTES | {"id", "capacity"}, ("id", "capacity")),
    (
        "maintenance",
        _NOTES | {"id", "machine", "duration", "earliest", "latest"},
        ("id", "machine", "duration", "latest"),
    ),
)
"""Lists of a document: fields that their rows may have, and those that they must."""
_IMPORTED_JOB = frozenset(("product", "quantity"))
_IMPORTED_OP = frozenset(("id", "family", "release"))


def check_form(data: Mapping[str, Any]) -> None:
    """OrderError that names the first field that is missing, unknown or no list of objects."""
    _known(data, _TOP, "document")
    for key in ("machines", "setup", "jobs"):
        if key not in data:
            raise OrderError(f"document: has no {key!r}")
    for key, known, needed in _LISTS:
        for k, row in enumerate(_objects(data.get(key, []), key)):
            what = _name(row, f"{key}[{k}]", key.removesuffix("s"))
            _known(row, known, what)
            for name in needed:
                if name not in row:
                    raise OrderError(f"{what}: has no {name!r}")
    for row in data.get("operators", []):
        if not isinstance(row["skills"], list):
            raise OrderError(
                f"operator {row['id']!r}: skills must be a list of names, got {row['skills']!r}"
            )
    if not data["machines"]:
        raise OrderError("machines: there are none; name at least one")
    for k, job in enumerate(_objects(data["jobs"], "jobs")):
        check_job(job, f"jobs[{k}]")
    for k, row in enumerate(_list(data.get("tariff", []), "tariff")):
        if not isinstance(row, list) or len(row) != 2:
            raise OrderError(f"tariff[{k}]: must be [from, price], got {row!r}")


def check_job(job: Mapping[str, Any], place: str, *, is_imported: bool = False) -> None:
    """OrderError that names what of a job has no form.

    Parameters
    ----------
    place
        Where it stands, for a job without an id.
    is_imported
        It may also have the fields that only the jobs of imported orders have.
    """
    what = _name(job, place, "job")
    known = _OP | _IMPORTED_OP if is_imported else _OP
    _known(job, _JOB | _IMPORTED_JOB if is_imported else _JOB, what)
    if "operations" not in job:
        raise OrderError(f"{what}: has no 'operations'")
    for k, op in enumerate(_objects(job["operations"], f"{what}: operations")):
        if not op.keys() <= known:
            _known(op, known, f"{what} operation {k}")
        if "alternatives" not in op:
            raise OrderError(f"{what} operation {k}: has no 'alternatives', its machines and times")
        if "after" in op:
            _check_after(op["after"], f"{what} operation {k}")


def check_unique(ids: Sequence[str], what: str) -> None:
    """OrderError that names an id that stands twice."""
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for id in ids:
        if id in seen:
            raise OrderError(f"{what}: id {id!r} stands twice; give each one its own")
        seen.add(id)


def _check_after(rows: Any, what: str) -> None:
    for row in _list(rows, f"{what}: after"):
        if isinstance(row, Mapping):
            _known(row, _AFTER, f"{what}: after")


def _name(row: Mapping[str, Any], place: str, kind: str) -> str:
    """What a row is called in messages; OrderError when it has no id."""
    if "id" not in row:
        raise OrderError(f"{place}: has no 'id'")
    if not isinstance(row["id"], str | int | float):
        raise OrderError(f"{place}: id must be a text or a number, got {row['id']!r}")
    return f"{kind} {row['id']!r}"


def _known(row: Mapping[str, Any], known: Collection[str], what: str) -> None:
    """OrderError that names a field which nobody reads, with the nearest that there is."""
    for key in row:
        if key in known:
            continue
        near = get_close_matches(key, sorted(known), 1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        fields = ", ".join(sorted(set(known) - _NOTES))
        raise OrderError(f"{what}: unknown field {key!r}; {meant}Known are {fields}")


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise OrderError(f"{what} must be a list, got {_short(value)}")
    return value


def _objects(value: Any, what: str) -> list[Mapping[str, Any]]:
    for k, row in enumerate(_list(value, what)):
        if not isinstance(row, Mapping):
            raise OrderError(f"{what}[{k}] must be an object, got {_short(row)}")
    return value  # type: ignore[no-any-return]


def _short(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
