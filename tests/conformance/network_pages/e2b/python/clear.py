from e2b import ALL_TRAFFIC, Sandbox

sandbox = Sandbox.create(network={"deny_out": [ALL_TRAFFIC]})

# What an update does not name is lifted.
sandbox.update_network({})
