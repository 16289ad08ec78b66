"""A plain tool loop for any API that speaks OpenAI's chat completions.

pip install atoll openai

    with Sandbox.create("code-interpreter") as sandbox:
        print(answer(OpenAI(), "gpt-…", sandbox, "Plot a sine wave into /workspace/sine.png."))
"""

from __future__ import annotations

import json
from typing import Any

from openai import OpenAI
from openai.types.chat import ChatCompletionFunctionToolParam

from atoll import AtollError, Sandbox

MAX_OUTPUT = 20_000
TOOLS: list[ChatCompletionFunctionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "run_code",
            "description": "Run code in an isolated sandbox. Python keeps its variables between calls.",
            "parameters": {
                "type": "object",
                "properties": {
                    "code": {"type": "string"},
                    "language": {"type": "string", "enum": ["python", "javascript", "bash", "go"]},
                },
                "required": ["code"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "run_command",
            "description": "Run a shell command in the sandbox.",
            "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
        },
    },
]


def use_tool(sandbox: Sandbox, name: str, arguments: dict[str, Any]) -> str:
    if name == "run_code":
        run = sandbox.run_code(arguments["code"], language=arguments.get("language", "python"))
        output = f"{run.stdout}{run.stderr}{run.result or ''}"
    elif name == "run_command":
        command = sandbox.commands.run(arguments["command"])
        output = f"{command.stdout}{command.stderr}"
    else:
        raise ValueError(f"there is no tool {name}")
    return output[:MAX_OUTPUT] or "(no output)"


def safely(sandbox: Sandbox, name: str, arguments: str) -> str:
    """A model makes mistakes; it gets them back as text, and can do better."""
    try:
        return use_tool(sandbox, name, json.loads(arguments))
    except (AtollError, KeyError, TypeError, ValueError) as error:
        return f"error: {error!r}"


def answer(client: OpenAI, model: str, sandbox: Sandbox, question: str, max_turns: int = 10) -> str:
    messages: list[Any] = [{"role": "user", "content": question}]
    for _ in range(max_turns):
        reply = client.chat.completions.create(model=model, messages=messages, tools=TOOLS).choices[0].message
        messages.append(reply)
        if not reply.tool_calls:
            return reply.content or ""
        for call in reply.tool_calls:
            assert call.type == "function"  # we offer no others
            output = safely(sandbox, call.function.name, call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": output})
    raise RuntimeError(f"no answer after {max_turns} turns")
