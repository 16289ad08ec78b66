from novita_sandbox.core import Sandbox

sandbox = Sandbox.create()
print(f"https://{sandbox.get_host(3000)}")
