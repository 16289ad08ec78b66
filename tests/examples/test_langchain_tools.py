"""The LangChain example with a model that says what the test wrote down."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

from atoll import Sandbox
from examples.langchain_tools import answer, sandbox_tools

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("none_left")]


class Scripted(BaseChatModel):
    replies: list[AIMessage]
    offered: list[str] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        self.offered = [tool.name for tool in tools]
        assert all(tool.description and tool.tool_call_schema.model_json_schema()["properties"] for tool in tools)
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.replies.pop(0))])


def calls(*wanted: tuple[str, dict[str, Any]]) -> AIMessage:
    made = [{"name": name, "args": args, "id": f"{name}-{at}"} for at, (name, args) in enumerate(wanted)]
    return AIMessage(content="", tool_calls=made)


def test_a_model_works_with_files_commands_code_and_a_figure():
    model = Scripted(
        replies=[
            calls(("write_file", {"path": "/workspace/numbers.txt", "content": "1\n2\n3\n"})),
            calls(
                ("run_command", {"command": "wc -l < numbers.txt"}),
                ("run_python", {"code": "numbers = [int(line) for line in open('numbers.txt')]; sum(numbers)"}),
            ),
            calls(("run_python", {"code": "import matplotlib.pyplot as plt; plt.plot(numbers); plt.show()"})),
            calls(("read_file", {"path": "/workspace/missing.txt"}), ("run_command", {"command": "exit 3"})),
            AIMessage("The sum is 6."),
        ]
    )
    with Sandbox.create("code-interpreter") as sandbox:
        messages = answer(model, sandbox_tools(sandbox), "What is the sum?")
    assert model.offered == ["run_python", "run_command", "write_file", "read_file"]
    assert messages[-1].content == "The sum is 6."
    wrote, lines, total, figure, missing, failed = (each for each in messages if isinstance(each, ToolMessage))
    assert wrote.content == "wrote /workspace/numbers.txt"
    assert lines.content.startswith("3\n")
    assert total.content == "6\n[exit code 0, 0 figures]"
    assert figure.artifact[0].startswith(b"\x89PNG")
    assert (missing.status, "missing.txt" in missing.content) == ("error", True)
    assert failed.content.endswith("[exit code 3]")


def test_a_model_that_never_answers_is_stopped():
    model = Scripted(replies=[calls(("run_command", {"command": "true"})) for _ in range(2)])
    with Sandbox.create("busybox") as sandbox, pytest.raises(RuntimeError, match="no answer after 2 turns"):
        answer(model, sandbox_tools(sandbox), "?", max_turns=2)
