from novita_sandbox.core import ALL_TRAFFIC, Sandbox

sandbox = Sandbox.create()
sandbox.set_network(allow_out=["api.example.com"], deny_out=[ALL_TRAFFIC])

# By its id, from anywhere.
other = Sandbox.create()
Sandbox.set_network(other.sandbox_id, deny_out=["1.1.1.1"])
