"""The brain process with its screens: one event loop for both."""

import asyncio
import json
from pathlib import Path

from workshop_brain import __version__
from workshop_brain.app.brain import Brain
from workshop_brain.config import Settings
from workshop_brain.process import stop_requested
from workshop_brain.web.api import create_app, first_link
from workshop_brain.web.events import EventFeed
from workshop_brain.web.server import LOOPBACK, Server, listen
from workshop_brain.web.services import Services


async def serve(
    settings: Settings, *, data: Path, host: str, port: int, orders: Path | None
) -> None:
    """Run until told to stop or the parent is gone; prints one JSON line when ready."""
    listener = listen(host, port)
    feed = EventFeed()
    brain = Brain(settings, data, announce=feed.publish)
    app = create_app(_services(brain, feed, host))
    await brain.start(orders=orders)
    server = Server(app, listener)
    serving = asyncio.create_task(server.run_until_stopped(), name="web")
    await server.listening.wait()
    url = f"http://{host}:{port}/"
    token = first_link(app)
    link = f"{url}#/link/{token}" if token else ""
    print(json.dumps({"ready": True, "url": url, "link": link}), flush=True)
    stopping = asyncio.create_task(stop_requested(watch_parent=True))
    await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await brain.stop()
    await serving
    stopping.cancel()


def _services(brain: Brain, feed: EventFeed, host: str) -> Services:
    return Services(
        plant=brain.plant,
        clock=brain.clock,
        watch=brain.watch,
        historian=brain.historian,
        decider=brain.decider,
        users=brain.records,
        orders=brain.orders,
        work_list=brain.work_list,
        data_dir=brain.data,
        plant_dir=brain.settings.home,
        sources=brain.sources,
        settings=brain.records,
        push=brain.push,
        version=__version__,
        simulated=brain.settings.simulated,
        feed=feed,
        plant_rate=lambda: brain.clock.rate,
        latency=brain.ingest.latency,
        faults=lambda: {**brain.decider.faults(), **brain.ingest.faults()},
        loopback=host in LOOPBACK,
    )
