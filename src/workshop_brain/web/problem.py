"""Errors of the API: an HTTP status and a message id with parameters, in the reader's language."""

from typing import Any


class Problem(Exception):
    """Ends a request with ``{error: {id, message, params}}``."""

    def __init__(
        self, status: int, id: str, headers: dict[str, str] | None = None, /, **params: Any
    ) -> None:
        super().__init__(id)
        self.status = status
        self.id = id
        self.params = params
        self.headers = headers or {}
