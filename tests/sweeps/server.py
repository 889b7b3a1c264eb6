"""Stands in for W&B's server on loopback: as much of its GraphQL as a sweep and its agent use."""

import itertools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import yaml

_PROJECT = {"id": "1", "name": "test", "entity": {"id": "1", "name": "tester"}}


class Server(ThreadingHTTPServer):
    """Answers a client, and hands out the combinations of a grid in order.

    Attributes:
        asked: Names of the operations that came.
        running: What the agent last said of its runs.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.running: dict[str, bool] = {}
        self._config, self._given = "", 0

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """What W&B says to an operation."""
        self.asked.append(operation)
        return getattr(self, f"_on_{operation.lower()}")(variables)

    def _on_viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        user = {"id": "1", "username": "tester", "entity": "tester", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": user}

    def _on_upsertsweep(self, variables: dict[str, Any]) -> dict[str, Any]:
        self._config = variables["config"]
        sweep = {"name": "sweep1", "project": _PROJECT}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def _on_sweepwithruns(self, _: dict[str, Any]) -> dict[str, Any]:
        sweep = {
            "id": "1",
            "name": "sweep1",
            "state": "RUNNING",
            "config": self._config,
            "runs": {"edges": []},
        }
        return {"project": {"sweep": sweep}}

    def _on_createagent(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": "agent1"}}}

    def _on_heartbeat(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.running = json.loads(variables["runState"])
        commands = [] if self.running else [self._next()]
        return {"agentHeartbeat": {"agent": {"id": "agent1"}, "commands": json.dumps(commands)}}

    def _next(self) -> dict[str, Any]:
        sweep = yaml.safe_load(self._config)
        names = list(sweep["parameters"])
        grid = itertools.product(*(sweep["parameters"][name]["values"] for name in names))
        drawn = next(itertools.islice(grid, self._given, None), None)
        self._given += 1
        if drawn is None:
            return {"type": "exit"}
        args = {name: {"value": value} for name, value in zip(names, drawn, strict=True)}
        return {"type": "run", "run_id": f"trial{self._given}", "program": sweep["program"], "args": args}


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = re.match(r"\s*(?:query|mutation)\s+(\w+)", request["query"])
        data = self.server.answer(name[1] if name else "Viewer", request.get("variables") or {})
        body = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@contextmanager
def serving() -> Iterator[Server]:
    """A server that answers while the block runs."""
    with Server() as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
