"""A small coding agent written for HopX's Sandbox. Nothing in it is about Atoll.

It runs with both packages, because they have the same class:

    from hopx_ai import Sandbox         # pip install hopx-ai, and base_url="http://127.0.0.1:8080"
    from atoll import Sandbox           # pip install atoll
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Model = Callable[[list[str]], str]
"""What has happened up to now → the next program, or "" when the tests pass and nothing is left to do."""

CHECK = "python3 -m unittest -q test_solution"


def solve(sandbox: Any, task_tests: str, model: Model, max_attempts: int = 5) -> str:
    """Lets `model` write /workspace/solution.py until `task_tests` pass; returns the program.

    `sandbox`: a `hopx_ai.Sandbox` or an `atoll.Sandbox`.
    """
    sandbox.files.write("/workspace/test_solution.py", task_tests)
    history = [task_tests]
    for _ in range(max_attempts):
        program = model(history)
        sandbox.files.write("/workspace/solution.py", program)
        run = sandbox.commands.run(CHECK, working_dir="/workspace")
        if run.exit_code == 0:
            return str(sandbox.files.read("/workspace/solution.py"))
        history += [program, run.stderr[-4000:]]
    raise RuntimeError(f"not solved in {max_attempts} attempts")


def profile(sandbox: Any, program: str) -> dict[str, float]:
    """Runs it once in a fresh process with its own variables, and says what the sandbox measured."""
    result = sandbox.run_code(program, language="python", env={"PYTHONHASHSEED": "0"}, working_dir="/workspace")
    if not result.success:
        raise RuntimeError(result.stderr)
    return {"seconds": result.execution_time, "lines": float(result.stdout.count("\n"))}
