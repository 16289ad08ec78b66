import httpx
from e2b import Sandbox

sandbox = Sandbox.create()
server = sandbox.commands.run("python -m http.server 3000", background=True)
url = f"https://{sandbox.get_host(3000)}"

# From here, and from the sandbox itself.
print(httpx.get(url).text)
print(sandbox.commands.run(f"curl {url}").stdout)

server.kill()
