from e2b import Sandbox

# Set on its way out: the sandbox itself never sees it.
rule = {"transform": {"headers": {"X-Test-Token": "set on the way"}}}
sandbox = Sandbox.create(network={"rules": {"httpbin.e2b.team": [rule]}})
print(sandbox.commands.run("curl -s https://httpbin.e2b.team/headers").stdout)
