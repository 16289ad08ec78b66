from e2b import ALL_TRAFFIC, Sandbox

# What is allowed is allowed, whatever is denied.
sandbox = Sandbox.create(network={"deny_out": [ALL_TRAFFIC], "allow_out": ["1.1.1.1", "8.8.8.8"]})
