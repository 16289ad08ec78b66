from novita_sandbox.core import ALL_TRAFFIC, Sandbox

# Every name below it, and not the domain itself.
sandbox = Sandbox.create(network={"allow_out": ["*.mydomain.com"], "deny_out": [ALL_TRAFFIC]})
