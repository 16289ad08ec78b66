import { Sandbox } from 'e2b';

const sandbox = await Sandbox.create({ network: { maskRequestHost: 'localhost:${PORT}' } });
const program = `
import http.server
class Hosts(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers["Host"].encode())
http.server.HTTPServer(("", 8080), Hosts).serve_forever()
`;
await sandbox.files.write('hosts.py', program);
await sandbox.commands.run('python hosts.py', { background: true });
console.log(await (await fetch(`https://${sandbox.getHost(8080)}`)).text());
