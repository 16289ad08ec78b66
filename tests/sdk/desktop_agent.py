"""An agent with a desktop, scripted: no template has one yet. What it answers is the contract of HopX's clients."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n"
ANSWERS: dict[str, Any] = {
    "POST vnc/start": {"display": 1, "port": 5901, "url": "vnc://127.0.0.1:5901"},
    "GET vnc/status": {"running": True, "display": 1, "port": 5901, "url": "vnc://127.0.0.1:5901"},
    "GET clipboard/get": {"text": "copied"},
    "GET clipboard/history": {"history": ["copied"]},
    "GET screenshot": PNG,
    "POST screenshot/region": PNG,
    "POST recording/start": {"recording_id": "rec-1", "status": "recording"},
    "POST recording/stop": {"status": "stopped", "duration": 1.5, "file_size": 10, "format": "mp4"},
    "GET recording/status": {"status": "stopped", "duration": 1.5, "file_size": 10},
    "GET recording/download": b"film",
    "GET windows": {"windows": [{"id": "1", "title": "Terminal", "x": 0, "y": 0, "width": 800, "height": 600}]},
    "GET display": {"width": 1280, "height": 720, "depth": 24},
    "GET display/available": {"resolutions": [{"width": 1280, "height": 720}, [1920, 1080]]},
    "POST display/set": {"width": 1280, "height": 720, "depth": 24},
    "POST x11/ocr": {"text": "Save"},
    "POST x11/find_element": {"element": {"x": 10, "y": 20, "width": 40, "height": 12}},
    "POST x11/wait_for": {"element": {"x": 10, "y": 20, "width": 40, "height": 12}},
    "POST x11/get_bounds": {"x": 10, "y": 20, "width": 40, "height": 12},
    "GET x11/capture_window": PNG,
    "GET debug/logs": {"logs": ["started"]},
    "GET debug/processes": {"processes": [{"pid": 7, "name": "Xvfb", "command": "Xvfb :1"}]},
}
DONE = (
    *("vnc/stop", "mouse/click", "mouse/move", "mouse/drag", "mouse/scroll", "keyboard/type", "keyboard/press"),
    *("keyboard/combination", "clipboard/set", "windows/focus", "windows/close", "windows/resize"),
    *("windows/minimize", "x11/drag_drop", "x11/hotkey"),
)


class Screen:
    """Context manager: `url` is the agent's. `calls` are the requests: method, path, body."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        screen = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                screen._answer(self, None)

            def do_POST(self) -> None:
                screen._answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, request: BaseHTTPRequestHandler, body: Any) -> None:
        self.calls.append((request.command, request.path, body))
        name = request.path.partition("?")[0].removeprefix("/desktop/")
        value = ANSWERS.get(f"{request.command} {name}", {"success": True} if name in DONE else None)
        raw = value if isinstance(value, bytes) else json.dumps(value or {"error": "no such route"}).encode()
        request.send_response(404 if value is None else 200)
        request.send_header("Content-Length", str(len(raw)))
        request.end_headers()
        request.wfile.write(raw)

    def __enter__(self) -> Screen:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
