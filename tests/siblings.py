"""Where a Python process has its randomness and names from: cells, each ending in a value that no sibling may have."""

from __future__ import annotations

STANDARD = {
    "random": "import random\nrandom.getrandbits(64)",
    "a generator of its own": "import random\nrandom.Random().getrandbits(64)",
    "the system's generator": "import random\nrandom.SystemRandom().getrandbits(64)",
    "secrets": "import secrets\nsecrets.token_hex(16)",
    "uuid1": "import uuid\nstr(uuid.uuid1())",
    "uuid4": "import uuid\nstr(uuid.uuid4())",
    "a temporary name": "import tempfile\ntempfile.mktemp()",
    "a semaphore's name": "import multiprocessing.synchronize\nmultiprocessing.synchronize.SemLock._make_name()",
    "a shared memory's name": "from multiprocessing import shared_memory\nshared_memory._make_filename()",
    "the key of multiprocessing": "import multiprocessing\nmultiprocessing.current_process().authkey.hex()",
    "OpenSSL": "import ssl\nssl.RAND_bytes(16).hex()",
    "a boundary of parts": "from email.generator import Generator\nGenerator._make_boundary()",
    "a message's id": "from email.utils import make_msgid\nmake_msgid(domain='x').split('.')[2]",
    "the kernel": "import os\nos.urandom(16).hex()",
    "hashes in a program": "import subprocess, sys\n"
    "subprocess.check_output([sys.executable, '-c', 'print(hash(\"x\"))'], text=True)",
    "the layout of a program": "import subprocess\nsubprocess.check_output(['cat', '/proc/self/maps'], text=True)",
}
SCIENCE = {
    "numpy's old generator": "import numpy\nint(numpy.random.randint(1 << 62))",
    "numpy's new generator": "import numpy\nint(numpy.random.default_rng().integers(1 << 62))",
    "numpy's entropy": "import numpy\nint(numpy.random.SeedSequence().entropy)",
    "a sample of pandas": "import pandas\nlist(map(int, pandas.Series(range(10**6)).sample(4)))",
    "a display's id": "from IPython.display import DisplayHandle\nDisplayHandle().display_id",
    "ids in a picture": "import io\nfrom matplotlib.backends.backend_svg import RendererSVG\n"
    "RendererSVG(1, 1, io.StringIO())._make_id('x', 'y')",
}


def drawing(sources: dict[str, str]) -> str:
    """A cell that prints {source: value} as JSON."""
    return f"""
import ast, json
def draw(cell):
    *steps, last = ast.parse(cell).body
    names = {{}}
    exec(compile(ast.Module(steps, []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)
print(json.dumps({{name: draw(cell) for name, cell in {sources!r}.items()}}))
"""


def shared(drawn: list[dict[str, object]]) -> dict[str, list[object]]:
    """What was drawn twice."""
    columns = {name: [row[name] for row in drawn] for name in drawn[0]}
    return {name: values for name, values in columns.items() if len(set(map(str, values))) < len(values)}
