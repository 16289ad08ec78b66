import httpx
from e2b import Sandbox

sandbox = Sandbox.create(network={"mask_request_host": "localhost:${PORT}"})
program = """
import http.server
class Hosts(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers["Host"].encode())
http.server.HTTPServer(("", 8080), Hosts).serve_forever()
"""
sandbox.files.write("hosts.py", program)
sandbox.commands.run("python hosts.py", background=True)
print(httpx.get(f"https://{sandbox.get_host(8080)}").text)
