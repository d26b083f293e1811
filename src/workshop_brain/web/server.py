"""How the application is served: uvicorn with the settings that live frames need."""

import uvicorn
from fastapi import FastAPI

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def server_config(app: FastAPI, *, host: str, port: int) -> uvicorn.Config:
    """Settings of the server: no deflate on frames, small messages in, quick stop, no banner.

    The caller binds the socket if it wants its own message for a busy port.
    """
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=64 * 1024,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=2,
        proxy_headers=False,
    )
