"""`get_preview_url` and `agent_url` of the unmodified clients give URLs that answer."""

from __future__ import annotations

import json

import pytest

from names import DOMAIN

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

SERVER = "python3 -m http.server 8080 --directory /etc"

READY = """
import socket, time
while True:
    try:
        socket.create_connection(("127.0.0.1", 8080)).close()
        break
    except OSError:
        time.sleep(0.05)
"""

SYNC = """
import json, os, httpx
from hopx_ai import Sandbox
with Sandbox.create(template="code-interpreter", api_key=os.environ["KEY"], base_url=os.environ["URL"]) as sandbox:
    sandbox.commands.run(os.environ["SERVER"], background=True)
    sandbox.run_code(os.environ["READY"])
    url, agent, key = sandbox.get_preview_url(8080), sandbox.agent_url, {"X-API-Key": os.environ["KEY"]}
    print(json.dumps({
        "url": url,
        "agent": agent,
        "ran": sandbox.run_code("print(6 * 7)").stdout,
        "id": sandbox.sandbox_id,
        "health": httpx.get(agent + "health").json()["status"],
        "page": httpx.get(url + "passwd", headers=key).text[:5],
        "bare": httpx.get(url.split("/x.")[0] + "/passwd", headers=key).text[:5],
        "refused": httpx.get(url).status_code,
        "preview": httpx.get(sandbox.get_info().preview_url, headers=key).status_code,
    }))
"""

ASYNC = """
import asyncio, json, os, httpx
from hopx_ai import AsyncSandbox
async def main():
    account = {"api_key": os.environ["KEY"], "base_url": os.environ["URL"]}
    async with AsyncSandbox.create(template="code-interpreter", **account) as sandbox:
        await sandbox.commands.run(os.environ["SERVER"], background=True)
        await sandbox.run_code(os.environ["READY"])
        url, agent, said = await sandbox.get_preview_url(8080), await sandbox.agent_url, []
        async for part in sandbox.run_code_stream("print('streamed')"):
            said.append(str(part))
        async with httpx.AsyncClient() as client:
            page = await client.get(url + "passwd", headers={"X-API-Key": os.environ["KEY"]})
            health = await client.get(agent + "health")
        print(json.dumps({"url": url, "agent": agent, "id": sandbox.sandbox_id, "page": page.text[:5],
                          "said": "".join(said), "health": health.json()["status"]}))
asyncio.run(main())
"""


def play(names, stack, code: str) -> dict[str, object]:
    authority = str(stack.installation.places.tls / "ca.pem")
    account = {"KEY": stack.installation.api_key, "URL": stack.installation.url}
    variables = {**account, "SERVER": SERVER, "READY": READY}
    return json.loads(names.python(code, SSL_CERT_FILE=authority, **variables).splitlines()[-1])


def test_the_urls_of_the_sync_client_answer_over_tls(names, named_stack):
    found = play(names, named_stack, SYNC)
    port = named_stack.port
    assert found["url"] == f"https://8080-{found['id']}.{DOMAIN}:{port}/x.vms.hopx.dev/"
    assert found["agent"] == f"https://7777-{found['id']}.{DOMAIN}:{port}/x.vms.hopx.dev/"
    assert found["ran"] == "42\n"
    assert (found["health"], found["page"], found["bare"]) == ("healthy", "root:", "root:")
    assert found["refused"] == 401
    assert found["preview"] == 502  # nothing listens at 8000


def test_the_urls_of_the_async_client_answer_and_its_sockets_find_their_sandbox(names, named_stack):
    found = play(names, named_stack, ASYNC)
    assert found["url"] == f"https://8080-{found['id']}.{DOMAIN}:{named_stack.port}/x.vms.hopx.dev/"
    assert (found["health"], found["page"]) == ("healthy", "root:")
    assert "streamed" in str(found["said"])


def test_print_env_says_whom_to_trust(named_stack):
    assert named_stack.installation.url == f"https://{DOMAIN}:{named_stack.port}"
