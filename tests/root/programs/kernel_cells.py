"""Inside a sandbox: the cells of a kernel, one after the other. Cells come as JSON on standard input, outcomes go out.

kernel_cells.py KERNEL: [{"code", "silent", "interrupt"}…] → {"started_s", "outcomes": [{"reply", "streams", "result",
"error", "messages"}…], "alive"}. A cell with `interrupt` is interrupted when it has printed something.
"""

import json
import sys
import time
from queue import Empty

from jupyter_client.manager import KernelManager

LIMIT_S = 60


def run(manager, client, cell):
    sent = client.execute(cell["code"], silent=cell.get("silent", False))
    seen = {"streams": {"stdout": "", "stderr": ""}, "result": None, "error": None, "messages": 0, "pieces": []}
    until, barrier = time.monotonic() + LIMIT_S, None
    while True:
        try:
            message = client.get_iopub_msg(timeout=0.5)
        except Empty:
            if not manager.is_alive() or time.monotonic() > until:
                return {**seen, "reply": None}
            continue
        kind, content = message["msg_type"], message["content"]
        over = kind == "status" and content["execution_state"] == "idle"
        if over and message["parent_header"].get("msg_id") == barrier:
            break
        if message["parent_header"].get("msg_id") != sent:
            continue
        seen["messages"] += 1
        if kind == "stream":
            seen["streams"][content["name"]] += content["text"]
            seen["pieces"] = [*seen["pieces"][:9], content["text"]]
            if cell.get("interrupt"):
                manager.interrupt_kernel()
        elif kind == "execute_result":
            seen["result"] = content["data"]["text/plain"]
        elif kind == "error":
            seen["error"] = content
        elif over:  # Deno's last output may come after it
            barrier = client.kernel_info()
    while (reply := client.get_shell_msg(timeout=LIMIT_S))["parent_header"].get("msg_id") != sent:
        pass
    return {**seen, "reply": {key: reply["content"].get(key) for key in ("status", "execution_count")}}


def main():
    began = time.monotonic()
    manager = KernelManager(kernel_name=sys.argv[1])
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=LIMIT_S)
        started_s = time.monotonic() - began
        outcomes = [run(manager, client, cell) for cell in json.load(sys.stdin)]
        print(json.dumps({"started_s": started_s, "outcomes": outcomes, "alive": manager.is_alive()}))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


main()
