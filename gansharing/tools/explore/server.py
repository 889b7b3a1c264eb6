"""A server of the page, for this machine alone: no other address or host name, nothing from elsewhere."""

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from gansharing.errors import UserError
from gansharing.tools.explore.explorer import MOST_BYTES, Explorer
from gansharing.tools.explore.page import CSS, Page

HOST = "127.0.0.1"
# The inline code is gradio's own; scripts, styles, fonts and requests to elsewhere the browser refuses.
_POLICY = "default-src 'self' 'unsafe-inline' data: blob:; object-src 'none'; frame-ancestors 'none'"


@contextmanager
def serving(explorer: Explorer, port: int) -> Iterator[tuple[uvicorn.Server, socket.socket]]:
    """A server that is ready to ``run(sockets=[socket])``, and its socket, bound to this machine alone.

    Its pictures and uploads lie in a folder that is removed at the end.

    Args:
        explorer: What the page shows.
        port: 0 for any that is free.

    Raises:
        UserError: The port is taken or not allowed.
    """
    with _bound(port) as listening, tempfile.TemporaryDirectory(prefix="gansharing-explore-") as folder:
        with _environment(folder):
            app = _app(explorer, Path(folder), listening.getsockname()[1])
            config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
            yield _Server(config), listening


def _app(explorer: Explorer, folder: Path, port: int) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # A foreign page whose host name points at this machine is sent away.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    app.add_middleware(_Headers)
    return gr.mount_gradio_app(
        app,
        Page(explorer, folder).blocks,
        path="/",
        server_name=HOST,
        server_port=port,
        footer_links=[],
        run_history=False,
        max_file_size=4 * MOST_BYTES,  # where the upload itself ends; the explorer says so earlier
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=gr.themes.Default(primary_hue="blue"),
        css=CSS,
    )


class _Server(uvicorn.Server):
    """Ends at Ctrl-C and SIGTERM as after any other work; uvicorn would raise them past the clean-up."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Headers:
    """Adds the policy to every answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = {"content-security-policy": _POLICY, "referrer-policy": "no-referrer"}
                message["headers"] += [(name.encode(), value.encode()) for name, value in added.items()]
            await send(message)

        await self.app(scope, receive, sent)


@contextmanager
def _bound(port: int) -> Iterator[socket.socket]:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()  # who comes before the server runs waits, and is not refused
    except (OSError, OverflowError) as error:
        listening.close()
        raise UserError(
            f"port {port} cannot be had ({error}); give another, or 0 for any free one"
        ) from error
    with listening:
        yield listening


@contextmanager
def _environment(folder: str) -> Iterator[None]:
    """What gradio takes from the environment: its folder, and that nothing is told to anybody."""
    wanted = {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
