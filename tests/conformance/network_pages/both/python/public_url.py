from e2b import Sandbox

sandbox = Sandbox.create()
print(f"https://{sandbox.get_host(3000)}")
