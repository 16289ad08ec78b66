from novita_sandbox.core import ALL_TRAFFIC, Sandbox

by_name = Sandbox.create(network={"deny_out": [ALL_TRAFFIC]})
by_network = Sandbox.create(network={"deny_out": ["0.0.0.0/0"]})
