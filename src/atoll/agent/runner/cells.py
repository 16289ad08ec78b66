"""One cell: text → outcome, with Jupyter's rules.

- The value of the last expression is the result, unless it is None or a `;` follows.
- `await` works at the top level, on an event loop that lives as long as the context: what a cell leaves
  behind goes on while the context waits for the next cell. A cell without `await` runs outside the loop,
  so `asyncio.run()` works too; one that calls `asyncio.create_task` at its top level runs inside.
- `_`, `__`, `___` are the last results. There is no `Out`: it would keep every result alive.
- `from __future__ import …` holds for later cells.
- What Python itself rejects is tried once more as a cell with magics, so ordinary cells pay nothing for them.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import inspect
import textwrap
from types import CodeType, ModuleType
from typing import Any

from . import display, figures, magics, tracebacks
from .loop import Loop

TOP_LEVEL = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
FUTURE_FLAGS = 0
for _name in __future__.all_feature_names:
    FUTURE_FLAGS |= getattr(__future__, _name).compiler_flag
LOOP_CALLS = frozenset(("create_task", "ensure_future", "get_running_loop", "current_task", "all_tasks"))
RESULTS = ("_", "__", "___")


class Cells:
    def __init__(self) -> None:
        self.main = ModuleType("__main__")
        self.names = self.main.__dict__
        self.names["__builtins__"] = builtins
        self.names["get_ipython"] = self.shell
        self.loop = Loop()
        self.count = 0
        self._flags = 0
        self._shell: Any = None
        self._results: list[Any] = [None, None, None]

    def shell(self) -> Any:
        if self._shell is None:
            self._shell = magics.make_shell(self.main)
        return self._shell

    def run(self, source: str) -> None:
        """Run the cell and publish its result. Raises what the cell raises."""
        filename = tracebacks.cell_name(self.count)
        source = source.removeprefix("\ufeff")  # as Python does with a file's
        tracebacks.remember_source(filename, source)
        statements, expression = self._compile(source, filename)
        if statements is not None:
            self._evaluate(statements)
        value = None if expression is None else self._evaluate(expression)
        if self._shell is not None:
            self._shell.raise_failure()
        if value is not None:
            self._remember(value)
            display.publish("result", value)

    def finish(self) -> None:
        figures.show()

    def _remember(self, value: Any) -> None:
        """Unless the program uses `_` for something of its own."""
        if any(self.names.get(name) is not self._results[place] for place, name in enumerate(RESULTS)):
            return
        self._results = [value, *self._results[:2]]
        for place, name in enumerate(RESULTS):
            self.names[name] = self._results[place]

    def _compile(self, source: str, filename: str) -> tuple[CodeType | None, CodeType | None]:
        """All but the last expression, and the last expression."""
        tree, text = self._parse(source, filename)
        last = tree.body[-1] if tree.body else None
        expression = None
        if isinstance(last, ast.Expr) and not _is_quiet(text, last):
            tree.body.pop()
            expression = self._code(ast.Expression(last.value), filename, "eval")
        return (self._code(tree, filename, "exec") if tree.body else None), expression

    def _parse(self, source: str, filename: str) -> tuple[ast.Module, str]:
        try:
            return self._tree(source, filename), source
        except SyntaxError as error:
            refused = error
        changed = self._rewritten(source, refused)  # not in the except: what fails here has nothing to do with it
        if changed is None:
            raise refused
        return self._tree(changed, filename), changed

    def _rewritten(self, source: str, error: SyntaxError) -> str | None:
        if isinstance(error, IndentationError) and source.lstrip("\n")[:1] in (" ", "\t"):
            dedented = textwrap.dedent(source)
            if dedented != source:
                return dedented
        return magics.transform(source, self.shell) if magics.may_have(source) else None

    def _tree(self, source: str, filename: str) -> ast.Module:
        flags = ast.PyCF_ONLY_AST | TOP_LEVEL | self._flags
        tree = compile(source, filename, "exec", flags, dont_inherit=True)
        assert isinstance(tree, ast.Module)
        return tree

    def _code(self, tree: ast.Module | ast.Expression, filename: str, mode: str) -> CodeType:
        code: CodeType = compile(tree, filename, mode, TOP_LEVEL | self._flags, dont_inherit=True)
        self._flags |= code.co_flags & FUTURE_FLAGS
        return code

    def _evaluate(self, code: CodeType) -> Any:
        names = self.names
        if code.co_flags & inspect.CO_COROUTINE:
            return self.loop.run(eval(code, names))  # noqa: S307  # running what we are given is the purpose
        if LOOP_CALLS.isdisjoint(code.co_names) or "run" in code.co_names:
            return eval(code, names)  # noqa: S307
        return self.loop.call(lambda: eval(code, names))  # noqa: S307


def _is_quiet(text: str, last: ast.Expr) -> bool:
    """Only brackets, comments and `;` can follow the last expression."""
    lines = text.encode().split(b"\n")[(last.end_lineno or 1) - 1 :]
    lines[0] = lines[0][last.end_col_offset or 0 :]
    return any(b";" in line.split(b"#", 1)[0] for line in lines)
