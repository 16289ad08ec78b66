from e2b import ALL_TRAFFIC, Sandbox

# A name, and no other.
one = Sandbox.create(network={"allow_out": ["google.com"], "deny_out": [ALL_TRAFFIC]})

# Every name below a domain.
below = Sandbox.create(network={"allow_out": ["*.mydomain.com"], "deny_out": [ALL_TRAFFIC]})

# Names, addresses and networks together.
mixed = Sandbox.create(
    network={"allow_out": ["api.example.com", "*.github.com", "8.8.8.8"], "deny_out": [ALL_TRAFFIC]},
)
