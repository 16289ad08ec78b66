"""The tool loop with the `openai` package, against a server of this test that says what was written down."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from openai import OpenAI

from atoll import Sandbox
from examples.openai_tool_loop import answer

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("none_left")]


class Script:
    """Answers of the model, in turn; and what it was asked."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def client(script) -> Iterator[OpenAI]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            script.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **script.messages.pop(0)}}
            body = {"id": "1", "object": "chat.completion", "created": 1, "model": "scripted", "choices": [choice]}
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        with OpenAI(api_key="unused", base_url=url, max_retries=0) as made:
            yield made
        server.shutdown()
        thread.join()


def call(at: int, name: str, arguments: Any) -> dict[str, Any]:
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": written}}


def test_the_model_gets_what_its_tools_gave_until_it_answers(client, script):
    script.messages = [
        {"content": None, "tool_calls": [call(1, "run_code", {"code": "x = 6\nx * 7"})]},
        {
            "content": None,
            "tool_calls": [call(2, "run_code", {"code": "x"}), call(3, "run_command", {"command": "pwd"})],
        },
        {"content": "It is 42."},
    ]
    with Sandbox.create("code-interpreter") as sandbox:
        assert answer(client, "scripted", sandbox, "6 * 7?") == "It is 42."
    assert [tool["function"]["name"] for tool in script.asked[0]["tools"]] == ["run_code", "run_command"]
    given = {each["tool_call_id"]: each["content"] for each in script.asked[-1]["messages"] if each["role"] == "tool"}
    assert given == {"call_1": "42", "call_2": "6", "call_3": "/workspace\n"}


def test_mistakes_of_the_model_come_back_as_text(client, script):
    mistakes = [
        call(1, "run_code", "{not json"),
        call(2, "fly", {}),
        call(3, "run_code", {}),
        call(4, "run_command", []),
    ]
    script.messages = [{"content": None, "tool_calls": mistakes}, {"content": "sorry"}]
    with Sandbox.create("busybox") as sandbox:
        assert answer(client, "scripted", sandbox, "?") == "sorry"
    given = [each["content"] for each in script.asked[-1]["messages"] if each["role"] == "tool"]
    assert len(given) == 4
    assert all(content.startswith("error: ") for content in given)
