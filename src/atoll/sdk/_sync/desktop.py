"""The desktop of a sandbox: a screen that programs draw on, with a mouse and a keyboard.

No stock template has one yet: every method raises DesktopNotAvailableError there.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from atoll.sdk._core import agent, models
from atoll.sdk._core.models import DisplayInfo, RecordingInfo, VNCInfo, WindowInfo
from atoll.sdk._core.read import Json, mapping, objects, text, texts
from atoll.sdk._core.request import Request

from .client import Agent

WAIT_S = 30


class Desktop:
    """`sandbox.desktop`. Places and sizes are in pixels, from the upper left corner.

    >>> desktop_sandbox.desktop.click(100, 200)
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def _ask(self, path: str, timeout: float | None = None) -> Json:
        return self._agent.call(agent.desktop(path, None, timeout))

    def _tell(self, path: str, timeout: float | None = None, **body: Any) -> Json:  # Any: JSON values
        given = {name: value for name, value in body.items() if value is not None}
        return self._agent.call(agent.desktop(path, given, timeout))

    def _bytes(self, request: Request) -> bytes:
        return self._agent.send(request).body

    def _tell_slowly(self, path: str, wait: float, body: Json) -> Json:
        return self._agent.call(agent.desktop(path, body, wait + agent.ANSWER_S))

    def start_vnc(self, display: int = 1, password: str | None = None) -> VNCInfo:
        """Lets a VNC viewer watch the screen.

        >>> desktop_sandbox.desktop.start_vnc().port
        5901
        """
        return models.vnc_info(self._tell("vnc/start", display=display, password=password))

    def stop_vnc(self) -> None:
        """Ends that.

        >>> desktop_sandbox.desktop.stop_vnc()
        """
        self._tell("vnc/stop")

    def get_vnc_status(self) -> VNCInfo:
        """Whether and how the screen can be watched.

        >>> desktop_sandbox.desktop.get_vnc_status().display
        1
        """
        return models.vnc_info(self._ask("vnc/status"))

    def get_vnc_url(self) -> str:
        """The URL for a viewer.

        >>> desktop_sandbox.desktop.get_vnc_url()
        'vnc://127.0.0.1:5901'
        """
        return self.get_vnc_status().url or ""

    def click(self, x: int, y: int, button: str = "left", clicks: int = 1) -> None:
        """Clicks with `button`: left, middle, right.

        >>> desktop_sandbox.desktop.click(100, 200, clicks=2)
        """
        self._tell("mouse/click", x=x, y=y, button=button, clicks=clicks)

    def move(self, x: int, y: int) -> None:
        """Moves the mouse.

        >>> desktop_sandbox.desktop.move(100, 200)
        """
        self._tell("mouse/move", x=x, y=y)

    def drag(self, from_x: int, from_y: int, to_x: int, to_y: int, button: str = "left") -> None:
        """Moves the mouse with a button held.

        >>> desktop_sandbox.desktop.drag(0, 0, 100, 100)
        """
        self._tell("mouse/drag", from_x=from_x, from_y=from_y, to_x=to_x, to_y=to_y, button=button)

    def scroll(self, amount: int, direction: str = "down") -> None:
        """Turns the wheel: up, down, left, right.

        >>> desktop_sandbox.desktop.scroll(3)
        """
        self._tell("mouse/scroll", amount=amount, direction=direction)

    def type(self, text: str, delay_ms: int = 10) -> None:
        """Types, with so many milliseconds between keys.

        >>> desktop_sandbox.desktop.type("hello")
        """
        self._tell("keyboard/type", text=text, delay_ms=delay_ms)

    def press(self, key: str) -> None:
        """Presses one key: `Return`, `Escape`, `F1`.

        >>> desktop_sandbox.desktop.press("Return")
        """
        self._tell("keyboard/press", key=key)

    def combination(self, modifiers: Sequence[str], key: str) -> None:
        """Presses a key while others are held.

        >>> desktop_sandbox.desktop.combination(["ctrl"], "s")
        """
        self._tell("keyboard/combination", modifiers=list(modifiers), key=key)

    def set_clipboard(self, text: str) -> None:
        """Puts a text on the clipboard.

        >>> desktop_sandbox.desktop.set_clipboard("copied")
        """
        self._tell("clipboard/set", text=text)

    def get_clipboard(self) -> str:
        """The text on the clipboard.

        >>> desktop_sandbox.desktop.get_clipboard()
        'copied'
        """
        return text(self._ask("clipboard/get").get("text"))

    def get_clipboard_history(self) -> builtins.list[str]:
        """Texts that were on the clipboard.

        >>> desktop_sandbox.desktop.get_clipboard_history()
        ['copied']
        """
        return texts(self._ask("clipboard/history").get("history"))

    def screenshot(self) -> bytes:
        """The screen, as PNG.

        >>> desktop_sandbox.desktop.screenshot()[:4]
        b'\\x89PNG'
        """
        return self._bytes(agent.desktop("screenshot", None, None))

    def screenshot_region(self, x: int, y: int, width: int, height: int) -> bytes:
        """A part of the screen, as PNG.

        >>> desktop_sandbox.desktop.screenshot_region(0, 0, 100, 100)[:4]
        b'\\x89PNG'
        """
        body = {"x": x, "y": y, "width": width, "height": height}
        return self._bytes(agent.desktop("screenshot/region", body, None))

    def start_recording(self, fps: int = 10, format: str = "mp4", quality: str = "medium") -> RecordingInfo:
        """Records the screen, as mp4 or webm.

        >>> desktop_sandbox.desktop.start_recording().is_recording
        True
        """
        return models.recording_info(self._tell("recording/start", fps=fps, format=format, quality=quality))

    def stop_recording(self, recording_id: str) -> RecordingInfo:
        """Ends a recording.

        >>> desktop_sandbox.desktop.stop_recording("rec-1").is_ready
        True
        """
        return models.recording_info(self._tell("recording/stop", recording_id=recording_id), recording_id)

    def get_recording_status(self, recording_id: str) -> RecordingInfo:
        """How a recording is getting on.

        >>> desktop_sandbox.desktop.get_recording_status("rec-1").status
        'stopped'
        """
        request = agent.desktop_query("recording/status", "id", recording_id, None)
        return models.recording_info(self._agent.call(request), recording_id)

    def download_recording(self, recording_id: str) -> bytes:
        """The film.

        >>> len(desktop_sandbox.desktop.download_recording("rec-1")) > 0
        True
        """
        return self._bytes(agent.desktop_query("recording/download", "id", recording_id, None))

    def get_windows(self) -> builtins.list[WindowInfo]:
        """The windows that are open.

        >>> [window.title for window in desktop_sandbox.desktop.get_windows()]
        ['Terminal']
        """
        return [models.window_info(each) for each in objects(self._ask("windows").get("windows"))]

    def focus_window(self, window_id: int | str) -> None:
        """Brings a window to the front.

        >>> desktop_sandbox.desktop.focus_window(1)
        """
        self._tell("windows/focus", window_id=window_id)

    def close_window(self, window_id: int | str) -> None:
        """Closes a window.

        >>> desktop_sandbox.desktop.close_window(1)
        """
        self._tell("windows/close", window_id=window_id)

    def resize_window(self, window_id: int | str, width: int, height: int) -> None:
        """Gives a window another size.

        >>> desktop_sandbox.desktop.resize_window(1, 800, 600)
        """
        self._tell("windows/resize", window_id=window_id, width=width, height=height)

    def minimize_window(self, window_id: int | str) -> None:
        """Puts a window away.

        >>> desktop_sandbox.desktop.minimize_window(1)
        """
        self._tell("windows/minimize", window_id=window_id)

    def get_display(self) -> DisplayInfo:
        """The size of the screen.

        >>> desktop_sandbox.desktop.get_display().resolution
        '1280x720'
        """
        return models.display_info(self._ask("display"))

    def get_available_resolutions(self) -> builtins.list[tuple[int, int]]:
        """Sizes that it can have.

        >>> desktop_sandbox.desktop.get_available_resolutions()
        [(1280, 720), (1920, 1080)]
        """
        return models.resolutions(self._ask("display/available").get("resolutions"))

    def set_resolution(self, width: int, height: int) -> DisplayInfo:
        """Gives it another size.

        >>> desktop_sandbox.desktop.set_resolution(1280, 720).width
        1280
        """
        return models.display_info(self._tell("display/set", width=width, height=height))

    def ocr(
        self, x: int, y: int, width: int, height: int, *, language: str = "eng", timeout: float | None = None
    ) -> str:
        """Reads the text in a part of the screen.

        >>> desktop_sandbox.desktop.ocr(0, 0, 200, 50)
        'Save'
        """
        body = {"x": x, "y": y, "width": width, "height": height, "language": language}
        return text(self._tell("x11/ocr", timeout, **body).get("text"))

    def find_element(self, text: str, *, timeout: float | None = None) -> Json | None:
        """Where a text is on the screen; None when it is not there.

        >>> desktop_sandbox.desktop.find_element("Save")["x"]
        10
        """
        return mapping(self._tell("x11/find_element", timeout, text=text).get("element")) or None

    def wait_for(self, text: str, *, timeout: float = WAIT_S) -> Json:
        """Waits for a text on the screen, and says where it is.

        >>> desktop_sandbox.desktop.wait_for("Save")["x"]
        10
        """
        found = self._tell_slowly("x11/wait_for", timeout, {"text": text, "timeout": timeout})
        return mapping(found.get("element"))

    def drag_drop(self, from_x: int, from_y: int, to_x: int, to_y: int, *, timeout: float | None = None) -> None:
        """Takes what is at one place to another.

        >>> desktop_sandbox.desktop.drag_drop(0, 0, 100, 100)
        """
        body = {"from_x": from_x, "from_y": from_y, "to_x": to_x, "to_y": to_y}
        self._tell("x11/drag_drop", timeout, **body)

    def get_bounds(self, text: str, *, timeout: float | None = None) -> Json:
        """The box around a text on the screen.

        >>> desktop_sandbox.desktop.get_bounds("Save")["width"]
        40
        """
        return self._tell("x11/get_bounds", timeout, text=text)

    def capture_window(self, window_id: int | str | None = None, *, timeout: float | None = None) -> bytes:
        """A window, as PNG; without an id the one in front.

        >>> desktop_sandbox.desktop.capture_window(1)[:4]
        b'\\x89PNG'
        """
        shown = None if window_id is None else str(window_id)
        return self._bytes(agent.desktop_query("x11/capture_window", "window_id", shown, timeout))

    def hotkey(self, modifiers: Sequence[str], key: str, *, timeout: float | None = None) -> None:
        """As `combination`, sent to the window in front.

        >>> desktop_sandbox.desktop.hotkey(["ctrl", "shift"], "t")
        """
        self._tell("x11/hotkey", timeout, modifiers=list(modifiers), key=key)

    def get_debug_logs(self) -> builtins.list[str]:
        """What the desktop's programs have logged.

        >>> desktop_sandbox.desktop.get_debug_logs()
        ['started']
        """
        return texts(self._ask("debug/logs").get("logs"))

    def get_debug_processes(self) -> builtins.list[Json]:
        """The desktop's programs.

        >>> desktop_sandbox.desktop.get_debug_processes()[0]["name"]
        'Xvfb'
        """
        return objects(self._ask("debug/processes").get("processes"))
