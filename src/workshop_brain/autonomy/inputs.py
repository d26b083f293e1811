"""The inputs of a decision as canonical bytes: equal inputs give equal bytes, and back.

Layout: ``WBIN1\\n``, length of the header (u32, little-endian), header (canonical JSON), then the
arrays one after the other, little-endian, C order, in the order in which the header lists them.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.autonomy.record import canonical
from workshop_brain.errors import LedgerError
from workshop_brain.schedule.limits import Buffer, Limits, Operator, Tool
from workshop_brain.schedule.objective import PLANT_WEIGHTS, Weights
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import Problem

MAGIC = b"WBIN1\n"
_DTYPES = {"<i8": np.int64, "<f8": np.float64, "|u1": np.uint8, "|b1": np.bool_}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """All that a computation reads.

    Attributes
    ----------
    kind
        "build", "react" or "improve".
    previous
        The plan before it, on the same problem; None for a first plan. Stability counts from it.
    base
        The plan that an improvement starts from; None otherwise.
    frozen_s
        Operations that start within this many seconds keep machine and start.
    triggers
        What set it off, JSON values.
    iterations
        Budget of the deterministic search; 0 where there is no search.
    weights
        What the plans are judged by; records from before they were stored mean PLANT_WEIGHTS.
    """

    kind: str
    problem: Problem
    previous: Plan | None
    triggers: tuple[dict[str, Any], ...]
    seed: int
    iterations: int
    base: Plan | None = None
    frozen_s: int = 0
    weights: Weights = PLANT_WEIGHTS


def pack(inputs: Inputs) -> bytes:
    """Canonical bytes of the inputs."""
    arrays: dict[str, NDArray[Any]] = {}
    meta: dict[str, Any] = {
        "kind": inputs.kind,
        "triggers": list(inputs.triggers),
        "seed": inputs.seed,
        "iterations": inputs.iterations,
        "frozen_s": inputs.frozen_s,
        "weights": asdict(inputs.weights),
        "problem": _split(inputs.problem, "problem", arrays),
    }
    if inputs.problem.limits is not None:
        meta["problem"]["limits"] = asdict(inputs.problem.limits)
    for name in ("previous", "base"):
        plan = getattr(inputs, name)
        meta[name] = None if plan is None else _split(plan, name, arrays)
    table, chunks = [], []
    for name in sorted(arrays):
        values = _little(arrays[name], name)
        table.append([name, values.dtype.str, list(values.shape)])
        chunks.append(values.tobytes())
    header = canonical({"meta": meta, "arrays": table})
    return b"".join([MAGIC, struct.pack("<I", len(header)), header, *chunks])


def unpack(data: bytes) -> Inputs:
    """The inputs of canonical bytes; LedgerError when they are not such bytes."""
    try:
        if not data.startswith(MAGIC):
            raise ValueError("it does not begin with WBIN1")
        at = len(MAGIC) + 4
        (size,) = struct.unpack_from("<I", data, len(MAGIC))
        header = json.loads(data[at : at + size])
        at += size
        arrays: dict[str, NDArray[Any]] = {}
        for name, dtype, shape in header["arrays"]:
            count = int(np.prod(shape, dtype=np.int64))
            values: NDArray[Any] = np.frombuffer(data, _DTYPES[dtype], count, at)
            arrays[name] = values.reshape(shape).copy()
            at += values.nbytes
        if at != len(data):
            raise ValueError(f"{len(data) - at} bytes too many")
        meta = header["meta"]
        return Inputs(
            kind=meta["kind"],
            problem=_problem(meta["problem"], arrays),
            previous=_plan(meta, "previous", arrays),
            base=_plan(meta, "base", arrays),
            frozen_s=meta["frozen_s"],
            triggers=tuple(meta["triggers"]),
            seed=meta["seed"],
            iterations=meta["iterations"],
            weights=Weights(**meta["weights"]) if "weights" in meta else PLANT_WEIGHTS,
        )
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise LedgerError(f"stored decision inputs cannot be read: {error}") from error


def digest(data: bytes) -> str:
    """SHA-256 of the bytes, hex: the decision's ``input_hash``."""
    return hashlib.sha256(data).hexdigest()


def _split(value: Any, prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Arrays of a dataclass go to ``arrays``; what is left is JSON."""
    rest: dict[str, Any] = {}
    for field in fields(value):
        part = getattr(value, field.name)
        if isinstance(part, np.ndarray):
            arrays[f"{prefix}.{field.name}"] = part
        else:
            rest[field.name] = part
    return rest


def _join(cls: type[Any], rest: Mapping[str, Any], prefix: str, arrays: Any) -> Any:
    values = {name: _tuples(part) for name, part in rest.items()}
    head = f"{prefix}."
    values |= {name[len(head) :]: a for name, a in arrays.items() if name.startswith(head)}
    return cls(**values)


def _problem(rest: Mapping[str, Any], arrays: Any) -> Problem:
    limits = rest.get("limits")
    kept = {**rest, "limits": None}
    problem: Problem = _join(Problem, kept, "problem", arrays)
    return problem if limits is None else replace(problem, limits=_limits(limits))


def _limits(rest: Mapping[str, Any]) -> Limits:
    rows = {"tools": Tool, "operators": Operator, "buffers": Buffer}
    values: dict[str, Any] = {name: _tuples(part) for name, part in rest.items()}
    for name, kind in rows.items():
        values[name] = tuple(
            kind(**{key: _tuples(part) for key, part in row.items()}) for row in rest[name]
        )
    return Limits(**values)


def _plan(meta: Mapping[str, Any], name: str, arrays: Any) -> Plan | None:
    rest = meta[name]
    plan: Plan | None = None if rest is None else _join(Plan, rest, name, arrays)
    return plan


def _tuples(part: Any) -> Any:
    return tuple(_tuples(p) for p in part) if isinstance(part, list) else part


def _little(values: NDArray[Any], name: str) -> NDArray[Any]:
    out = np.ascontiguousarray(values)
    out = out.astype(out.dtype.newbyteorder("<"), copy=False)
    if out.dtype.str not in _DTYPES:
        raise ValueError(f"column {name}: dtype {out.dtype} has no canonical form")
    return out
