from novita_sandbox.core import ALL_TRAFFIC, Sandbox

sandbox = Sandbox.create(network={"allow_out": ["google.com", "api.example.com"], "deny_out": [ALL_TRAFFIC]})
