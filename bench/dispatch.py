"""Dispatch call to confirmation on the simulated plant's receiver, beside the bare method call.

    python bench/dispatch.py [--jobs N]

The plant's server runs in this process, so its work is in the figures. Goal: p99 <= 1 s.
"""

import argparse
import asyncio
import json
import time
from typing import Any

import numpy as np
from asyncua import ua

from workshop_brain.config import built_in
from workshop_brain.dispatch.opcua_job import JobOrderDispatcher
from workshop_brain.dispatch.opcua_link import OpcUaLink
from workshop_brain.model.order import JobOrder
from workshop_brain.twin.commands import Command
from workshop_brain.twin.opcua_server import PlantServer
from workshop_brain.twin.orders import order_book
from workshop_brain.twin.sim import PlantSim
from workshop_brain.units import NS_PER_H

START_NS = 1_800_000_000_000_000_000
CENTER = "soft"


def jobs(sim: PlantSim, count: int, name: str) -> list[JobOrder]:
    """Jobs for work center soft, from orders that the plant has not begun."""
    known = {r.job for r in sim.job_list(CENTER)}
    out = []
    for request in order_book(sim.plant, 1, START_NS, 28):
        step = sim.plant.product(request.product).step(CENTER)
        unit = next(u for u in sim.plant.work_center(CENTER).units if step.family in u.families)
        id = f"{request.id}.{CENTER}"
        if id in known:
            continue
        out.append(
            JobOrder(
                id=f"{id}.{name}", requests=((request.id, 1),), work_center=CENTER,
                equipment=unit.path, product=request.product, program=step.family, quantity=1,
                start_ns=START_NS + 48 * NS_PER_H, end_ns=START_NS + 49 * NS_PER_H,
            )
        )  # fmt: skip
    return out[:count]


def row(name: str, ms: list[float]) -> dict[str, Any]:
    values = np.array(ms)
    return {
        "what": name,
        "n": len(ms),
        "p50_ms": round(float(np.percentile(values, 50)), 1),
        "p99_ms": round(float(np.percentile(values, 99)), 1),
        "max_ms": round(float(values.max()), 1),
    }


async def measure(count: int) -> list[dict[str, Any]]:
    sim = PlantSim(built_in().plant, seed=1, start_ns=START_NS)

    async def apply(command: Command) -> str:
        return sim.command(command)

    server = PlantServer(sim, apply, port=0)
    await server.start()
    link = OpcUaLink(server.url)
    area = sim.plant.work_center(CENTER).area
    receiver = f"Plant/{sim.plant.site}/{area}/{CENTER}/JobOrderControl"
    out = JobOrderDispatcher(link, receiver=receiver, work_center=CENTER)
    rows = []
    try:
        await out.jobs()
        node = await link.node(receiver)
        method = await link.child(receiver, "StoreAndStart")
        bare = []
        for job in jobs(sim, count, "bare"):
            order = await out._structure(job)
            begin = time.perf_counter()
            comment = ua.Variant([], ua.VariantType.LocalizedText, is_array=True)
            await node.call_method(method.nodeid, order, comment)
            bare.append((time.perf_counter() - begin) * 1e3)
        rows.append(row("baseline: bare StoreAndStart call, nothing checked", bare))
        whole, outcomes = [], dict[str, int]()
        steps: dict[str, list[float]] = {}
        for job in jobs(sim, count, "x"):
            begin = time.perf_counter()
            answer = await out.dispatch(job)
            whole.append((time.perf_counter() - begin) * 1e3)
            outcomes[answer.outcome.value] = outcomes.get(answer.outcome.value, 0) + 1
            for name, ms in answer.steps:
                steps.setdefault(name, []).append(ms)
        rows.append({**row("dispatch call to confirmation", whole), "outcomes": outcomes})
        rows += [row(f"  {name}", ms) for name, ms in steps.items()]
        rows.append({"what": "jobs listed at the end", "n": len(await out.jobs())})
    finally:
        await out.close()
        await server.stop()
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100)
    for line in asyncio.run(measure(parser.parse_args().jobs)):
        print(json.dumps(line))
