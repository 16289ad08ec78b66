from e2b import Sandbox

with_internet = Sandbox.create(allow_internet_access=True)
without_internet = Sandbox.create(allow_internet_access=False)
