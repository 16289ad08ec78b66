"""Variables for one execution in a kernel: code that sets them before it and code that puts them back after it.

The old values are kept inside the kernel, which alone knows what its cells have changed. A kernel of a language
that has no row here takes no variables for one execution.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

Change = Mapping[str, Any]  # name → text, or None: the variable is not there


class Row(NamedTuple):
    set: Callable[[Change], str]
    reset: Callable[[Iterable[str]], str]
    source: str = ""
    """How a file with such code is run. Empty: the code is sent as it is."""


def _bash_text(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _is_bash_name(name: str) -> bool:
    return name.isascii() and name.isidentifier()


def _bash_set(change: Change) -> str:
    """A name that is no identifier (they reach programs, not the shell) is left alone."""
    lines = []
    for number, (name, value) in enumerate(sorted(_bash_names(change).items())):
        old = f"__atoll_{number}"
        lines.append(f'unset {old} {old}x; if [ -n "${{{name}+x}}" ]; then {old}=${name}; {old}x=${{{name}@a}}; fi')
        lines.append(f"unset {name}" if value is None else f"export {name}={_bash_text(value)}")
    return "\n".join([*lines, ""])


def _bash_names(change: Change) -> dict[str, Any]:
    return {name: value for name, value in change.items() if _is_bash_name(name)}


def _bash_reset(names: Iterable[str]) -> str:
    lines = []
    for number, name in enumerate(sorted(filter(_is_bash_name, names))):
        old = f"__atoll_{number}"
        back = f'{name}=${old}; case "${{{old}x}}" in *x*) export {name};; *) export -n {name};; esac'
        lines.append(f'if [ -n "${{{old}+x}}" ]; then {back}; else unset {name}; fi; unset {old} {old}x')
    return "\n".join([*lines, ""])


_PYTHON_SET = """import os
change = %r
os.environ.atoll_before = {name: os.environ.get(name) for name, _ in change}
"""
_PYTHON_RESET = """import os
change = os.environ.__dict__.pop("atoll_before", {}).items()
"""
_PYTHON_PUT = """for name, value in change:
    os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
"""


def _python_apart(code: str) -> str:
    """In names of its own: the user's stay as they are."""
    return f"exec({code!r}, {{}})"


def _python_set(change: Change) -> str:
    return _python_apart(_PYTHON_SET % (list(change.items()),) + _PYTHON_PUT)


def _python_reset(_names: Iterable[str]) -> str:
    return _python_apart(_PYTHON_RESET + _PYTHON_PUT)


_SCRIPT = """((change) => {
  const deno = globalThis.Deno?.env, node = globalThis.process?.env;
  const put = (name, value) => {
    if (value !== null) { if (deno) deno.set(name, value); else node[name] = value; }
    else if (deno) deno.delete(name); else delete node[name];
  };
  const key = Symbol.for("atoll.env");
  %s
})(%s);
"""
_SCRIPT_SET = """const old = globalThis[key] = new Map();
  for (const [name, value] of change) {
    old.set(name, (deno ? deno.get(name) : node[name]) ?? null);
    put(name, value);
  }"""
_SCRIPT_RESET = """for (const [name, value] of globalThis[key] ?? []) put(name, value);
  delete globalThis[key];"""


def _script_set(change: Change) -> str:
    return _SCRIPT % (_SCRIPT_SET, json.dumps(list(change.items())))


def _script_reset(_names: Iterable[str]) -> str:
    return _SCRIPT % (_SCRIPT_RESET, "[]")


def _r_text(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(character if character.isprintable() else _r_escape(character) for character in quoted) + '"'


def _r_escape(character: str) -> str:
    return f"\\U{{{ord(character):x}}}"


def _r_vector(texts: Iterable[str]) -> str:
    return f"c({', '.join(map(_r_text, texts))})"


def _r_set(change: Change) -> str:
    given = {name: value for name, value in change.items() if value is not None}
    gone = [name for name in change if name not in given]
    lines = [f"options(atoll.env = Sys.getenv({_r_vector(change)}, unset = NA, names = TRUE))"]
    if given:
        lines.append(f"do.call(Sys.setenv, stats::setNames(as.list({_r_vector(given.values())}), {_r_vector(given)}))")
    if gone:
        lines.append(f"Sys.unsetenv({_r_vector(gone)})")
    return "invisible(local({\n" + "\n".join(lines) + "\n}))\n"


def _r_reset(_names: Iterable[str]) -> str:
    return """invisible(local({
old <- getOption("atoll.env")
if (any(is.na(old))) Sys.unsetenv(names(old)[is.na(old)])
if (any(!is.na(old))) do.call(Sys.setenv, as.list(old[!is.na(old)]))
options(atoll.env = NULL)
}))
"""


_JAVA_CONSTANT = 16 * 1024  # characters; a constant of a class file has 65,535 bytes
_JAVA = """{
  var field = Class.forName("java.lang.ProcessEnvironment").getDeclaredField("theUnmodifiableEnvironment");
  field.setAccessible(true);
  var inner = field.get(null).getClass().getDeclaredField("m");
  inner.setAccessible(true);
  @SuppressWarnings("unchecked")
  var env = (java.util.Map<String, String>) inner.get(field.get(null));
  var properties = System.getProperties();
  java.util.function.BiConsumer<String, String> put = (name, value) -> {
    if (value == null) { env.remove(name); properties.remove(name); }
    else { env.put(name, value); properties.setProperty(name, value); }
  };
%s}
"""
_JAVA_KEEP = """  for (String name : new String[] {%s}) {
    if (env.containsKey(name)) properties.setProperty("atoll.env." + name, env.get(name));
    if (properties.containsKey(name)) properties.setProperty("atoll.property." + name, properties.getProperty(name));
  }
"""
_JAVA_BACK = """  for (String name : new String[] {%s}) {
    Object value = properties.remove("atoll.env." + name), property = properties.remove("atoll.property." + name);
    if (value == null) env.remove(name); else env.put(name, (String) value);
    if (property == null) properties.remove(name); else properties.put(name, property);
  }
"""


def _java_text(text: str) -> str:
    """Its UTF-16 units: escapes above 127 are read before anything else, so they cannot end the constant."""
    raw = text.encode("utf-16-be", "surrogatepass")
    units = [int.from_bytes(raw[place : place + 2], "big") for place in range(0, len(raw), 2)]
    parts = [
        '"' + "".join(map(_java_character, units[place : place + _JAVA_CONSTANT])) + '"'
        for place in range(0, len(units), _JAVA_CONSTANT)
    ]
    return f'String.join("", {", ".join(parts)})' if len(parts) > 1 else "".join(parts) or '""'


def _java_character(unit: int) -> str:
    if unit > 126:
        return f"\\u{unit:04x}"
    return chr(unit) if unit >= 32 and chr(unit) not in '"\\' else f"\\{unit:03o}"


def _java_names(names: Iterable[str]) -> str:
    return ", ".join(map(_java_text, names))


def _java_set(change: Change) -> str:
    puts = [
        f"  put.accept({_java_text(name)}, {'null' if value is None else _java_text(value)});\n"
        for name, value in change.items()
    ]
    return _JAVA % (_JAVA_KEEP % _java_names(change) + "".join(puts))


def _java_reset(names: Iterable[str]) -> str:
    return _JAVA % (_JAVA_BACK % _java_names(names))


_SCRIPT_ROW = Row(_script_set, _script_reset)
ROWS: dict[str, Row] = {
    "python": Row(_python_set, _python_reset),
    "bash": Row(_bash_set, _bash_reset, source=". {}"),  # typed into a terminal, whose lines are short
    "javascript": _SCRIPT_ROW,
    "typescript": _SCRIPT_ROW,
    "r": Row(_r_set, _r_reset),
    "java": Row(_java_set, _java_reset),
}
