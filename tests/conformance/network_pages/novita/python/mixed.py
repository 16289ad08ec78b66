from novita_sandbox.core import ALL_TRAFFIC, Sandbox

sandbox = Sandbox.create(
    network={"allow_out": ["api.example.com", "*.github.com", "8.8.8.0/24"], "deny_out": [ALL_TRAFFIC]},
)
