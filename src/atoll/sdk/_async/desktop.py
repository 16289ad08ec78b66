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

from .client import AsyncAgent

WAIT_S = 30


class AsyncDesktop:
    """`sandbox.desktop`. Places and sizes are in pixels, from the upper left corner.

    >>> await desktop_sandbox.desktop.click(100, 200)
    """

    def __init__(self, agent: AsyncAgent) -> None:
        self._agent = agent

    async def _ask(self, path: str, timeout: float | None = None) -> Json:
        return await self._agent.call(agent.desktop(path, None, timeout))

    async def _tell(self, path: str, timeout: float | None = None, **body: Any) -> Json:  # Any: JSON values
        given = {name: value for name, value in body.items() if value is not None}
        return await self._agent.call(agent.desktop(path, given, timeout))

    async def _bytes(self, request: Request) -> bytes:
        return (await self._agent.send(request)).body

    async def _tell_slowly(self, path: str, wait: float, body: Json) -> Json:
        return await self._agent.call(agent.desktop(path, body, wait + agent.ANSWER_S))

    async def start_vnc(self, display: int = 1, password: str | None = None) -> VNCInfo:
        """Lets a VNC viewer watch the screen.

        >>> (await desktop_sandbox.desktop.start_vnc()).port
        5901
        """
        return models.vnc_info(await self._tell("vnc/start", display=display, password=password))

    async def stop_vnc(self) -> None:
        """Ends that.

        >>> await desktop_sandbox.desktop.stop_vnc()
        """
        await self._tell("vnc/stop")

    async def get_vnc_status(self) -> VNCInfo:
        """Whether and how the screen can be watched.

        >>> (await desktop_sandbox.desktop.get_vnc_status()).display
        1
        """
        return models.vnc_info(await self._ask("vnc/status"))

    async def get_vnc_url(self) -> str:
        """The URL for a viewer.

        >>> await desktop_sandbox.desktop.get_vnc_url()
        'vnc://127.0.0.1:5901'
        """
        return (await self.get_vnc_status()).url or ""

    async def click(self, x: int, y: int, button: str = "left", clicks: int = 1) -> None:
        """Clicks with `button`: left, middle, right.

        >>> await desktop_sandbox.desktop.click(100, 200, clicks=2)
        """
        await self._tell("mouse/click", x=x, y=y, button=button, clicks=clicks)

    async def move(self, x: int, y: int) -> None:
        """Moves the mouse.

        >>> await desktop_sandbox.desktop.move(100, 200)
        """
        await self._tell("mouse/move", x=x, y=y)

    async def drag(self, from_x: int, from_y: int, to_x: int, to_y: int, button: str = "left") -> None:
        """Moves the mouse with a button held.

        >>> await desktop_sandbox.desktop.drag(0, 0, 100, 100)
        """
        await self._tell("mouse/drag", from_x=from_x, from_y=from_y, to_x=to_x, to_y=to_y, button=button)

    async def scroll(self, amount: int, direction: str = "down") -> None:
        """Turns the wheel: up, down, left, right.

        >>> await desktop_sandbox.desktop.scroll(3)
        """
        await self._tell("mouse/scroll", amount=amount, direction=direction)

    async def type(self, text: str, delay_ms: int = 10) -> None:
        """Types, with so many milliseconds between keys.

        >>> await desktop_sandbox.desktop.type("hello")
        """
        await self._tell("keyboard/type", text=text, delay_ms=delay_ms)

    async def press(self, key: str) -> None:
        """Presses one key: `Return`, `Escape`, `F1`.

        >>> await desktop_sandbox.desktop.press("Return")
        """
        await self._tell("keyboard/press", key=key)

    async def combination(self, modifiers: Sequence[str], key: str) -> None:
        """Presses a key while others are held.

        >>> await desktop_sandbox.desktop.combination(["ctrl"], "s")
        """
        await self._tell("keyboard/combination", modifiers=list(modifiers), key=key)

    async def set_clipboard(self, text: str) -> None:
        """Puts a text on the clipboard.

        >>> await desktop_sandbox.desktop.set_clipboard("copied")
        """
        await self._tell("clipboard/set", text=text)

    async def get_clipboard(self) -> str:
        """The text on the clipboard.

        >>> await desktop_sandbox.desktop.get_clipboard()
        'copied'
        """
        return text((await self._ask("clipboard/get")).get("text"))

    async def get_clipboard_history(self) -> builtins.list[str]:
        """Texts that were on the clipboard.

        >>> await desktop_sandbox.desktop.get_clipboard_history()
        ['copied']
        """
        return texts((await self._ask("clipboard/history")).get("history"))

    async def screenshot(self) -> bytes:
        """The screen, as PNG.

        >>> (await desktop_sandbox.desktop.screenshot())[:4]
        b'\\x89PNG'
        """
        return await self._bytes(agent.desktop("screenshot", None, None))

    async def screenshot_region(self, x: int, y: int, width: int, height: int) -> bytes:
        """A part of the screen, as PNG.

        >>> (await desktop_sandbox.desktop.screenshot_region(0, 0, 100, 100))[:4]
        b'\\x89PNG'
        """
        body = {"x": x, "y": y, "width": width, "height": height}
        return await self._bytes(agent.desktop("screenshot/region", body, None))

    async def start_recording(self, fps: int = 10, format: str = "mp4", quality: str = "medium") -> RecordingInfo:
        """Records the screen, as mp4 or webm.

        >>> (await desktop_sandbox.desktop.start_recording()).is_recording
        True
        """
        return models.recording_info(await self._tell("recording/start", fps=fps, format=format, quality=quality))

    async def stop_recording(self, recording_id: str) -> RecordingInfo:
        """Ends a recording.

        >>> (await desktop_sandbox.desktop.stop_recording("rec-1")).is_ready
        True
        """
        return models.recording_info(await self._tell("recording/stop", recording_id=recording_id), recording_id)

    async def get_recording_status(self, recording_id: str) -> RecordingInfo:
        """How a recording is getting on.

        >>> (await desktop_sandbox.desktop.get_recording_status("rec-1")).status
        'stopped'
        """
        request = agent.desktop_query("recording/status", "id", recording_id, None)
        return models.recording_info(await self._agent.call(request), recording_id)

    async def download_recording(self, recording_id: str) -> bytes:
        """The film.

        >>> len(await desktop_sandbox.desktop.download_recording("rec-1")) > 0
        True
        """
        return await self._bytes(agent.desktop_query("recording/download", "id", recording_id, None))

    async def get_windows(self) -> builtins.list[WindowInfo]:
        """The windows that are open.

        >>> [window.title for window in await desktop_sandbox.desktop.get_windows()]
        ['Terminal']
        """
        return [models.window_info(each) for each in objects((await self._ask("windows")).get("windows"))]

    async def focus_window(self, window_id: int | str) -> None:
        """Brings a window to the front.

        >>> await desktop_sandbox.desktop.focus_window(1)
        """
        await self._tell("windows/focus", window_id=window_id)

    async def close_window(self, window_id: int | str) -> None:
        """Closes a window.

        >>> await desktop_sandbox.desktop.close_window(1)
        """
        await self._tell("windows/close", window_id=window_id)

    async def resize_window(self, window_id: int | str, width: int, height: int) -> None:
        """Gives a window another size.

        >>> await desktop_sandbox.desktop.resize_window(1, 800, 600)
        """
        await self._tell("windows/resize", window_id=window_id, width=width, height=height)

    async def minimize_window(self, window_id: int | str) -> None:
        """Puts a window away.

        >>> await desktop_sandbox.desktop.minimize_window(1)
        """
        await self._tell("windows/minimize", window_id=window_id)

    async def get_display(self) -> DisplayInfo:
        """The size of the screen.

        >>> (await desktop_sandbox.desktop.get_display()).resolution
        '1280x720'
        """
        return models.display_info(await self._ask("display"))

    async def get_available_resolutions(self) -> builtins.list[tuple[int, int]]:
        """Sizes that it can have.

        >>> await desktop_sandbox.desktop.get_available_resolutions()
        [(1280, 720), (1920, 1080)]
        """
        return models.resolutions((await self._ask("display/available")).get("resolutions"))

    async def set_resolution(self, width: int, height: int) -> DisplayInfo:
        """Gives it another size.

        >>> (await desktop_sandbox.desktop.set_resolution(1280, 720)).width
        1280
        """
        return models.display_info(await self._tell("display/set", width=width, height=height))

    async def ocr(
        self, x: int, y: int, width: int, height: int, *, language: str = "eng", timeout: float | None = None
    ) -> str:
        """Reads the text in a part of the screen.

        >>> await desktop_sandbox.desktop.ocr(0, 0, 200, 50)
        'Save'
        """
        body = {"x": x, "y": y, "width": width, "height": height, "language": language}
        return text((await self._tell("x11/ocr", timeout, **body)).get("text"))

    async def find_element(self, text: str, *, timeout: float | None = None) -> Json | None:
        """Where a text is on the screen; None when it is not there.

        >>> (await desktop_sandbox.desktop.find_element("Save"))["x"]
        10
        """
        return mapping((await self._tell("x11/find_element", timeout, text=text)).get("element")) or None

    async def wait_for(self, text: str, *, timeout: float = WAIT_S) -> Json:
        """Waits for a text on the screen, and says where it is.

        >>> (await desktop_sandbox.desktop.wait_for("Save"))["x"]
        10
        """
        found = await self._tell_slowly("x11/wait_for", timeout, {"text": text, "timeout": timeout})
        return mapping(found.get("element"))

    async def drag_drop(self, from_x: int, from_y: int, to_x: int, to_y: int, *, timeout: float | None = None) -> None:
        """Takes what is at one place to another.

        >>> await desktop_sandbox.desktop.drag_drop(0, 0, 100, 100)
        """
        body = {"from_x": from_x, "from_y": from_y, "to_x": to_x, "to_y": to_y}
        await self._tell("x11/drag_drop", timeout, **body)

    async def get_bounds(self, text: str, *, timeout: float | None = None) -> Json:
        """The box around a text on the screen.

        >>> (await desktop_sandbox.desktop.get_bounds("Save"))["width"]
        40
        """
        return await self._tell("x11/get_bounds", timeout, text=text)

    async def capture_window(self, window_id: int | str | None = None, *, timeout: float | None = None) -> bytes:
        """A window, as PNG; without an id the one in front.

        >>> (await desktop_sandbox.desktop.capture_window(1))[:4]
        b'\\x89PNG'
        """
        shown = None if window_id is None else str(window_id)
        return await self._bytes(agent.desktop_query("x11/capture_window", "window_id", shown, timeout))

    async def hotkey(self, modifiers: Sequence[str], key: str, *, timeout: float | None = None) -> None:
        """As `combination`, sent to the window in front.

        >>> await desktop_sandbox.desktop.hotkey(["ctrl", "shift"], "t")
        """
        await self._tell("x11/hotkey", timeout, modifiers=list(modifiers), key=key)

    async def get_debug_logs(self) -> builtins.list[str]:
        """What the desktop's programs have logged.

        >>> await desktop_sandbox.desktop.get_debug_logs()
        ['started']
        """
        return texts((await self._ask("debug/logs")).get("logs"))

    async def get_debug_processes(self) -> builtins.list[Json]:
        """The desktop's programs.

        >>> (await desktop_sandbox.desktop.get_debug_processes())[0]["name"]
        'Xvfb'
        """
        return objects((await self._ask("debug/processes")).get("processes"))
