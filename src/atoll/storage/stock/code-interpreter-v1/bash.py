"""bash_kernel without its terminal library's pauses, on a terminal that leaves the ends of lines as they are."""

import termios
from typing import Any

import pexpect
from app import serve
from bash_kernel.kernel import BashKernel


class Prompt(pexpect.spawn):
    """50 ms before each line that is sent are for programs that ask for a password; a kernel sends 40 at its start.
    And of `\\r\\n` the kernel takes the first half for a line's end when it has not read the second yet."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.delaybeforesend = None
        attributes = termios.tcgetattr(self.child_fd)
        attributes[1] &= ~termios.ONLCR
        termios.tcsetattr(self.child_fd, termios.TCSANOW, attributes)


pexpect.spawn = Prompt

if __name__ == "__main__":
    serve(BashKernel)
