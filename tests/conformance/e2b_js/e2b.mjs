// What is of E2B's client in its tests.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'node:net';

import { Test } from '../js/harness.mjs';

// Where an answer is not as the package declares it, and why.
export const OTHERWISE = {};

const LIFE_MS = 120_000;

export class E2BTest extends Test {
  get facts() {
    return this.place.facts;
  }

  // Whether the installation is reached by E2B_DOMAIN, so that the URLs that users write themselves work.
  get named() {
    return Boolean(this.facts.E2B_DOMAIN);
  }

  // Some versions take their own answers for wrong ones when they have a logger.
  get logs() {
    return this.minor < 24 || this.minor > 45;
  }

  get minor() {
    return Number(this.place.sdk.version.split('.')[1]);
  }

  // Older versions forget them.
  get sendsTimes() {
    return this.minor > 27;
  }

  // Older versions do not say whether there was a sandbox to be killed.
  get saysWhatItKilled() {
    return this.minor > 27;
  }

  // What older versions tell of a sandbox is without its network and its lifecycle.
  get tellsAll() {
    return this.minor > 15;
  }

  // The client's own variables as options, for calls that shall need no environment.
  get connection() {
    const { E2B_API_KEY: apiKey, E2B_API_URL: apiUrl, E2B_SANDBOX_URL: sandboxUrl, E2B_DOMAIN: domain } = this.facts;
    return { apiKey, apiUrl, sandboxUrl, domain };
  }

  get control() {
    return this.facts.E2B_API_URL ?? `https://api.${this.facts.E2B_DOMAIN}`;
  }

  async create(options = {}) {
    return this.ending(await this.sdk.Sandbox.create({ timeoutMs: LIFE_MS, ...options }));
  }

  ending(sandbox) {
    this.afterwards(() => this.sdk.Sandbox.kill(sandbox.sandboxId));
    return sandbox;
  }

  // The answer of a server inside: by its name where there are names, else by the headers that the client itself uses.
  reach(sandbox, port, headers = {}) {
    if (this.named) return fetch(`https://${sandbox.getHost(port)}/`, { headers });
    const routed = { 'E2b-Sandbox-Id': sandbox.sandboxId, 'E2b-Sandbox-Port': `${port}` };
    return fetch(this.facts.E2B_SANDBOX_URL, { headers: { ...routed, ...headers } });
  }

  // A name of its own in the account: the suites of several versions run side by side.
  unique(what) {
    return `${what}-${process.pid}-${(this.place.counter = (this.place.counter ?? 0) + 1)}`;
  }

  // An HTTP proxy: its address, and what it was asked to connect to.
  async proxy() {
    const asked = [];
    const server = createServer();
    server.on('connect', (request, client, head) => {
      asked.push(request.url);
      const { hostname, port } = new URL(`http://${request.url}`);
      const upstream = connect(Number(port), hostname, () => {
        client.write('HTTP/1.1 200 Connection established\r\n\r\n');
        upstream.write(head);
        upstream.pipe(client).pipe(upstream);
      });
      for (const [end, other] of [
        [client, upstream],
        [upstream, client],
      ])
        end.on('error', () => other.destroy());
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    this.afterwards(async () => server.closeAllConnections() ?? server.close());
    return { url: `http://127.0.0.1:${server.address().port}`, asked };
  }
}

// Starts a server inside that answers with the request's headers as JSON, by TLS if asked; returns when it listens.
export async function echo(sandbox, port, tls = false) {
  const ready = gathered((all) => all.join('').includes('ready'));
  const options = { background: true, timeoutMs: 0, onStdout: ready.offer };
  const key =
    'openssl req -x509 -newkey rsa:2048 -nodes -keyout /tmp/k.pem -out /tmp/c.pem -days 1 -subj /CN=x 2>/dev/null; ';
  await sandbox.files.write('/tmp/echo.py', ECHO);
  await sandbox.commands.run(`${tls ? key : ''}exec python3 -u /tmp/echo.py ${port} ${tls ? 'tls' : ''}`, options);
  await ready.met;
}

const ECHO = `
import http.server, json, ssl, sys
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Echo)
if sys.argv[2:]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/tmp/c.pem", "/tmp/k.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready")
server.serve_forever()
`;

// Resolves when `offer` has been called with values that, together, satisfy `enough`.
export function gathered(enough) {
  const values = [];
  let done;
  const met = new Promise((resolve) => (done = resolve));
  const offer = (value) => {
    values.push(value);
    if (enough(values)) done(values);
  };
  return { offer, met, values };
}
