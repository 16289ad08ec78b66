from e2b import ALL_TRAFFIC, Sandbox

sandbox = Sandbox.create()
sandbox.update_network({"allow_out": ["api.example.com"], "deny_out": [ALL_TRAFFIC]})
