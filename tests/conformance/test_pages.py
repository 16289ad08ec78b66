"""What HopX's pages on networking and security show, run by the unmodified client against a small internet.

The programs are those of the pages; what the pages take from elsewhere – the authority behind the servers'
certificates, an account with a secrets manager – comes from the sandbox's variables and from a server of this file.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import boto3
import hopx_ai
import pytest
from hopx_ai import Sandbox

from atoll.testing import internet as net

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

CA_FILE = "/workspace/ca.pem"


@pytest.fixture(scope="module")
def account(online) -> dict[str, str]:
    return {"api_key": online.installation.api_key, "base_url": online.installation.url}


@pytest.fixture(scope="module")
def sandbox(account, internet) -> Iterator[Sandbox]:
    made = Sandbox.create(template="code-interpreter", env_vars={"REQUESTS_CA_BUNDLE": CA_FILE}, **account)
    made.files.write(CA_FILE, internet.ca_file.read_text())
    yield made
    made.kill()
    for client in (made._client, made._agent_client):  # it has no close of its own
        client.close()


def test_an_outbound_request(sandbox, internet):
    result = sandbox.run_code("""
import requests
response = requests.get('https://api.example.com/data')
print(response.json())
""")
    assert result.success, result.stderr
    assert result.stdout == "{'data': [1, 2, 3]}\n"
    assert internet.requests[-1].host == "api.example.com"


def test_fetching_data_from_an_api(sandbox):
    result = sandbox.run_code("""
import requests

# Fetch data from public API
response = requests.get('https://jsonplaceholder.typicode.com/posts/1')
data = response.json()
print(f"Title: {data['title']}")
""")
    assert result.stdout == "Title: A post\n"


def test_downloading_a_file(sandbox):
    result = sandbox.run_code("""
import requests

# Download file
response = requests.get('https://example.com/file.csv')
with open('/workspace/file.csv', 'wb') as f:
    f.write(response.content)
print("File downloaded")
""")
    assert result.stdout == "File downloaded\n"
    assert sandbox.files.read("/workspace/file.csv") == net.CSV.decode()


def test_a_request_with_headers_and_a_body_arrives_as_it_was_sent(sandbox, internet):
    result = sandbox.run_code("""
import requests
answer = requests.post('http://httpbin.org/post', json={'a': 1}, headers={'X-Token': 't'}, timeout=10).json()
print(answer['method'], answer['data'], answer['headers']['X-Token'])
""")
    assert result.stdout == 'POST {"a": 1} t\n'
    assert internet.requests[-1].body == b'{"a": 1}'


def test_a_web_service_in_the_background(sandbox):
    sandbox.run_code_background("""
from flask import Flask
app = Flask(__name__)

@app.route('/')
def hello():
    return 'Hello from sandbox!'

if __name__ == '__main__':
    app.run(host='0.0.0.0', port=8000)
""")
    result = sandbox.run_code("""
import requests, time
for attempt in range(200):
    try:
        print(requests.get('http://127.0.0.1:8000/', timeout=5).text)
        break
    except requests.ConnectionError:
        time.sleep(0.05)
""")
    assert result.stdout == "Hello from sandbox!\n"


def test_secrets_in_variables(account):
    sandbox = Sandbox.create(
        template="code-interpreter", env_vars={"DATABASE_PASSWORD": "secret123", "API_KEY": "key-abc"}, **account
    )
    result = sandbox.run_code("""
import os
password = os.getenv('DATABASE_PASSWORD')
api_key = os.getenv('API_KEY')
print(password, api_key)
""")
    sandbox.kill()
    assert result.stdout == "secret123 key-abc\n"


class _SecretsManager(BaseHTTPRequestHandler):
    """The one call of AWS's protocol that the page makes, with its signature's form checked."""

    secrets = {"myapp/secrets": {"DATABASE_PASSWORD": "from-the-manager", "API_KEY": "key-of-the-manager"}}  # noqa: RUF012

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.secrets.get(asked["SecretId"])
        signed = self.headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=")
        wanted = self.headers["X-Amz-Target"] == "secretsmanager.GetSecretValue"
        answer = {"Name": asked["SecretId"], "SecretString": json.dumps(known)}
        self.send_response(200 if known and signed and wanted else 400)
        self.end_headers()
        self.wfile.write(json.dumps(answer if known else {"__type": "ResourceNotFoundException"}).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def secrets_manager() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _SecretsManager) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_secrets_from_a_secrets_manager(account, secrets_manager, monkeypatch):
    for name, value in (("AWS_ACCESS_KEY_ID", "AKIAFAKE"), ("AWS_SECRET_ACCESS_KEY", "fake"),
                        ("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_ENDPOINT_URL", secrets_manager)):  # fmt: skip
        monkeypatch.setenv(name, value)
    client = boto3.client("secretsmanager")
    secrets = json.loads(client.get_secret_value(SecretId="myapp/secrets")["SecretString"])
    client.close()
    sandbox = Sandbox.create(template="code-interpreter", env_vars=secrets, **account)
    result = sandbox.run_code("import os; print(os.getenv('DATABASE_PASSWORD'), os.getenv('API_KEY'))")
    sandbox.kill()
    assert result.stdout == "from-the-manager key-of-the-manager\n"


def test_file_isolation(account):
    # Sandbox 1
    sandbox1 = Sandbox.create(template="code-interpreter", **account)
    sandbox1.files.write("/workspace/data.txt", "Sandbox 1 data")

    # Sandbox 2 (completely separate)
    sandbox2 = Sandbox.create(template="code-interpreter", **account)
    # Cannot access sandbox1's files
    with pytest.raises(hopx_ai.FileNotFoundError):
        sandbox2.files.read("/workspace/data.txt")
    assert sandbox1.files.read("/workspace/data.txt") == "Sandbox 1 data"

    sandbox1.kill()  # Cleanup
    with pytest.raises(hopx_ai.NotFoundError):
        sandbox1.get_info()
    assert sandbox2.run_code("print('still here')").stdout == "still here\n"
    sandbox2.kill()


def test_the_context_manager_cleans_up(account):
    with Sandbox.create(template="code-interpreter", **account) as sandbox:
        assert sandbox.run_code("print(1 + 1)").stdout == "2\n"
        sandbox_id = sandbox.sandbox_id
    with pytest.raises(hopx_ai.NotFoundError):
        Sandbox.connect(sandbox_id, **account)


def test_no_internet_access(account, internet):
    internet.connections.clear()
    with Sandbox.create(template="code-interpreter", internet_access=False, **account) as sandbox:
        assert sandbox.get_info().internet_access is False
        result = sandbox.run_code("""
import requests, time
before = time.monotonic()
for url in ('https://api.example.com/data', 'http://203.0.113.10/'):
    try:
        requests.get(url, timeout=5)
        print('reached')
    except requests.ConnectionError:
        print('refused')
print(time.monotonic() - before < 2)
""")
        assert result.stdout == "refused\nrefused\nTrue\n", result.stderr
        assert sandbox.run_code("print('code runs')").stdout == "code runs\n"
    assert internet.connections == []
