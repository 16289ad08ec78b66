from e2b import ALL_TRAFFIC, Sandbox

# Nothing but these.
only = Sandbox.create(network={"deny_out": [ALL_TRAFFIC], "allow_out": ["1.1.1.1", "8.8.8.0/24"]})

# Everything but this.
all_but = Sandbox.create(network={"deny_out": ["8.8.8.8"]})
