from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys

import pytest


def test_process_serves_and_ends_cleanly_on_sigterm(places) -> None:
    """Also without a server: then its own page is all it has. The port is taken before only to know a free one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = (
        "import sys; from pathlib import Path; from atoll.core.settings import *; from atoll.edge.main import run; "
        "data, home, port = sys.argv[1:]; run(EdgeSettings(Places(Path(data), Path(home)), '127.0.0.1', int(port)))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(places.data), str(places.run), str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert any("listening on 127.0.0.1" in line for line in process.stderr)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
            assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


async def test_access_log_has_one_line_and_no_query(client, kit, agent, caplog: pytest.LogCaptureFixture) -> None:
    agent.answers("GET", "/files/stat", {"entry": {}})
    with caplog.at_level(logging.INFO, logger="atoll.edge.access"):
        await client.call("GET", "/files/exists?path=/secret")
    (line,) = [r.getMessage() for r in caplog.records if r.name == "atoll.edge.access"]
    assert line.startswith(f"method=GET path=/s/{kit.SANDBOX}/files/exists status=200 duration_ms=")
    assert "request_id=req_" in line
    assert "secret" not in line
