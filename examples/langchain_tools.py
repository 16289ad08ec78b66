"""LangChain: a sandbox as tools, for any model that can call tools.

pip install atoll langchain-core      # and your model's package, for example langchain-openai

    with Sandbox.create("code-interpreter") as sandbox:
        print(answer(ChatOpenAI(model="…"), sandbox_tools(sandbox), "What is the 20th Fibonacci number?"))

Agents take the list as it is: `create_agent(model, sandbox_tools(sandbox))` of the `langchain` package, for example.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.tools import BaseTool, ToolException, tool

from atoll import AtollError, Sandbox

MAX_OUTPUT = 20_000


@contextmanager
def told_to_the_model() -> Iterator[None]:
    """What went wrong, a missing file for example, is for the model to read."""
    try:
        yield
    except AtollError as error:
        raise ToolException(str(error)) from error


def sandbox_tools(sandbox: Sandbox) -> list[BaseTool]:
    @tool(response_format="content_and_artifact")
    def run_python(code: str) -> tuple[str, list[bytes]]:
        """Run Python code like a notebook cell. State is kept between calls; the last expression is shown."""
        with told_to_the_model():
            run = sandbox.run_code(code)
        figures = [base64.b64decode(each.data["image/png"]) for each in run.rich_outputs if each.type == "image/png"]
        shown = f"{run.stdout}{run.stderr}{run.result or ''}"[:MAX_OUTPUT]
        return f"{shown}\n[exit code {run.exit_code}, {len(figures)} figures]", figures

    @tool
    def run_command(command: str) -> str:
        """Run a shell command in the sandbox."""
        with told_to_the_model():
            run = sandbox.commands.run(command)
        return f"{run.stdout}{run.stderr}"[:MAX_OUTPUT] + f"\n[exit code {run.exit_code}]"

    @tool
    def write_file(path: str, content: str) -> str:
        """Write a text file in the sandbox, /workspace/… for example."""
        with told_to_the_model():
            sandbox.files.write(path, content)
        return f"wrote {path}"

    @tool
    def read_file(path: str) -> str:
        """Read a text file of the sandbox."""
        with told_to_the_model():
            return sandbox.files.read(path)[:MAX_OUTPUT]

    tools: list[BaseTool] = [run_python, run_command, write_file, read_file]
    for each in tools:
        each.handle_tool_error = True
    return tools


def answer(model: BaseChatModel, tools: list[BaseTool], question: str, max_turns: int = 10) -> list[BaseMessage]:
    """Asks until the model calls no tool any more; the last message is its answer."""
    by_name = {each.name: each for each in tools}
    asking = model.bind_tools(tools)
    messages: list[BaseMessage] = [HumanMessage(question)]
    for _ in range(max_turns):
        reply = asking.invoke(messages)
        messages.append(reply)
        if not reply.tool_calls:
            return messages
        messages += [by_name[call["name"]].invoke(call) for call in reply.tool_calls]
    raise RuntimeError(f"no answer after {max_turns} turns")
