"""What the kernels of this template have in common: ipykernel's application, and two of its habits less."""

from typing import Any

import zmq
from ipykernel import kernelapp
from ipykernel.iostream import IOPubThread
from ipykernel.kernelbase import Kernel


class Alone(IOPubThread):
    """Without a port that child processes print to: it would be one of the sandbox's open ports."""

    def __init__(self, socket: zmq.Socket, pipe: bool = False, **more: Any) -> None:
        super().__init__(socket, pipe=False, **more)


class App(kernelapp.IPKernelApp):
    """Without a limit to the messages that wait: beyond it they are dropped, the cell's end included."""

    def init_iopub(self, context: zmq.Context) -> None:
        context.setsockopt(zmq.SNDHWM, 0)
        super().init_iopub(context)


def serve(kernel: type[Kernel]) -> None:
    kernelapp.IOPubThread = Alone
    App.launch_instance(kernel_class=kernel)
