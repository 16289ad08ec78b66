"""IPython's InteractiveShell for the cells that need it: its magics on our namespace, nothing else of it.

No history (a database file and a thread), no profile directory in the user's home, no colours, no pager.
Importing this module needs IPython; making the shell waits for the first cell with a magic.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from types import ModuleType
from typing import Any

from . import display, magics

# Any: IPython is typed differently in each version, and absent from most templates
_page: Any = import_module("IPython.core.page")
_displaypub: Any = import_module("IPython.core.displaypub")
_interactiveshell: Any = import_module("IPython.core.interactiveshell")
_profiledir: Any = import_module("IPython.core.profiledir")
_config: Any = import_module("traitlets.config")

NOT_THEIRS = ("exit", "quit", "open", "get_ipython")  # exit wants a terminal application; open refuses fd 0 to 2


class Publisher(_displaypub.DisplayPublisher):  # type: ignore[misc]  # a subclass of Any
    def publish(self, data: Any, metadata: Any = None, **_options: Any) -> None:
        display.publish_display_data(data, metadata)

    def clear_output(self, wait: bool = False) -> None:
        pass


class CellShell(_interactiveshell.InteractiveShell):  # type: ignore[misc]
    _failure: BaseException | None = None

    def init_ipython_dir(self, ipython_dir: Any) -> None:
        pass

    def init_display_pub(self) -> None:
        self.display_pub = Publisher(parent=self)

    def enable_gui(self, gui: Any = None) -> None:
        pass

    def system(self, cmd: str) -> None:
        self.user_ns["_exit_code"] = magics.run_command(self.var_expand(cmd, depth=1))

    def showtraceback(self, exc_tuple: Any = None, *_args: Any, **_options: Any) -> None:
        """Magics such as %%time and %run swallow what the code raised; the cell shall fail with it."""
        self._failure = exc_tuple[1] if exc_tuple else sys.exc_info()[1]

    showsyntaxerror = showtraceback

    def captures(self, data: Any, metadata: Any) -> bool:
        if isinstance(self.display_pub, Publisher):
            return False
        self.display_pub.publish(data=dict(data), metadata=dict(metadata))
        return True

    def raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


def make_shell(main: ModuleType) -> Any:
    names = main.__dict__
    kept = {name: names[name] for name in NOT_THEIRS if name in names}
    with tempfile.TemporaryDirectory() as directory:
        profile = _profiledir.ProfileDir.create_profile_dir(directory)
        shell = CellShell.instance(config=_settings(), profile_dir=profile, user_module=main, user_ns=names)
    shell.db = {}
    _set_up(shell)
    display.divert(shell.captures)
    for name in NOT_THEIRS:
        names.pop(name, None)
    names.update(kept)
    return shell


def _settings() -> Any:
    config = _config.Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.colors = "NoColor"
    config.InteractiveShell.xmode = "Plain"
    return config


def _set_up(shell: CellShell) -> None:
    shell.set_hook("show_in_pager", _page.as_hook(_print_page), 90)
    line_magics = shell.magics_manager.magics["line"]
    configure = line_magics["config"]
    line_magics["matplotlib"] = lambda line: None
    line_magics["config"] = lambda line: None if magics.config_line(line) else configure(line)


def _print_page(text: Any, **_options: Any) -> None:
    print(text.get("text/plain", "") if isinstance(text, dict) else text)
