"""The Java kernel: Jupyter's protocol by ipykernel, Java by a JVM beside it (jvm.py)."""

import codecs
import signal
import time
from collections.abc import Callable
from typing import Any, ClassVar

from jvm import PAUSE, Ended, Jvm

STARTED = Jvm()  # first, for it starts while the rest is imported

from app import serve  # noqa: E402
from ipykernel.kernelbase import Kernel  # noqa: E402

STREAMS = {b"O": "stdout", b"F": "stderr"}
SINGLE = 100
"""Writes of a cell that are messages of their own."""
HELD_S = 0.05


class Printed:
    """A cell's output as messages: the first writes as they are, then what came in a while together.

    Jupyter's output goes by a socket that drops what its reader cannot take in time, the cell's end included.
    """

    def __init__(self, publish: Callable[[str, str], None]) -> None:
        self._publish = publish
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in STREAMS.values()}
        self._writes = 0
        self._held: list[str] = []
        self._name = ""
        self._due = 0.0

    def add(self, name: str, octets: bytes) -> None:
        self._writes += 1
        if name != self._name:
            self.send()
        if not self._held:
            self._name, self._due = name, time.monotonic() + HELD_S
        self._held.append(self._decoders[name].decode(octets))
        if self._writes <= SINGLE or time.monotonic() >= self._due:
            self.send()

    def send(self) -> None:
        if text := "".join(self._held):
            self._publish(self._name, text)
        self._held.clear()

    def pause_s(self) -> float | None:
        return max(0.0, self._due - time.monotonic()) if self._held else None


class JavaKernel(Kernel):
    implementation = "atoll-jshell"
    implementation_version = "1"
    banner = "Java (JShell)"
    language_info: ClassVar = {"name": "java", "mimetype": "text/x-java-source", "file_extension": ".jshell"}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._jvm = STARTED
        self._jvm.wait(b"Y")

    def pre_handler_hook(self) -> None:
        """Never a KeyboardInterrupt, which would strike anywhere: in the middle of an answer as well."""
        signal.signal(signal.SIGINT, self._jvm.interrupt)

    def post_handler_hook(self) -> None:
        """It stays: a late interrupt is for no cell, and says so to nobody."""

    def do_execute(self, code: str, silent: bool, *_: Any, **__: Any) -> dict[str, Any]:
        printed = Printed(lambda *stream: None if silent else self._stream(*stream))
        failure = None
        try:
            self._jvm.execute(code.encode("utf-8", "replace"))
            for kind, texts in self._jvm.frames(printed.pause_s):
                if kind in STREAMS:
                    printed.add(STREAMS[kind], texts[0])
                elif kind == PAUSE:
                    printed.send()
                elif kind == b"V":
                    value = texts[0].decode()
                    printed.send()
                    self._show(silent, value)
                elif kind == b"X":
                    failure = [text.decode() for text in texts]
                elif kind == b"D":
                    break
            for kind, texts in self._jvm.left():
                printed.add(STREAMS[kind], texts[0])
        except (Ended, BrokenPipeError):
            raise SystemExit(self._jvm.process.wait() & 0xFF) from None  # as the Java program wished, or was made to
        finally:
            printed.send()
        counted = {"execution_count": self.execution_count}
        if failure is None:
            return {"status": "ok", **counted, "payload": [], "user_expressions": {}}
        name, message, stack = failure
        content = {"ename": name, "evalue": message, "traceback": [name + ": " + message, *stack.splitlines()]}
        if not silent:
            self.send_response(self.iopub_socket, "error", content)
        return {"status": "error", **counted, **content}

    def _stream(self, name: str, text: str) -> None:
        self.send_response(self.iopub_socket, "stream", {"name": name, "text": text})

    def _show(self, silent: bool, text: str) -> None:
        if not silent:
            content = {"execution_count": self.execution_count, "data": {"text/plain": text}, "metadata": {}}
            self.send_response(self.iopub_socket, "execute_result", content)


if __name__ == "__main__":
    serve(JavaKernel)
