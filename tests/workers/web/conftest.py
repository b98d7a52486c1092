"""A real uvicorn server over this process's Callboard, and a client of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from tests.servers import wait_until
from tests.workers.refusing import migrated, refusing
from workers.web import create_app
from workers.web.server import make_config

__all__ = ["api", "api_url", "migrated", "refusing"]


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """An application on a loopback port, for the length of the block."""
    server = uvicorn.Server(make_config(app, host="127.0.0.1", port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, within_s=10, what="the start of the API")
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=60)


@pytest.fixture(scope="session")
def api_url() -> Iterator[str]:
    """The API on a loopback port; it uses whatever database is bound when a request comes."""
    with serving(create_app()) as url:
        yield url


@pytest.fixture
def api(api_url: str) -> Iterator[httpx2.Client]:
    """A client of the API."""
    # why not verified: it is plain HTTP, and each client would load every authority's certificate, which takes 20 ms.
    with httpx2.Client(base_url=api_url, timeout=60, verify=False) as client:
        yield client
