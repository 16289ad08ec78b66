import httpx
from e2b import Sandbox

sandbox = Sandbox.create(network={"allow_public_traffic": False})
sandbox.commands.run("python -m http.server 8080", background=True)
url = f"https://{sandbox.get_host(8080)}"

# Without the token nobody gets in.
print(httpx.get(url).status_code)
print(httpx.get(url, headers={"e2b-traffic-access-token": sandbox.traffic_access_token}).status_code)
