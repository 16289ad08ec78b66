from e2b import ALL_TRAFFIC, Sandbox

sandbox = Sandbox.create(network={"deny_out": [ALL_TRAFFIC]})
by_context = Sandbox.create(network={"deny_out": lambda context: [context.all_traffic]})
