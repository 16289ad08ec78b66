"""What the run of a suite is told: ATOLL_CONFORMANCE, a JSON object. See tests/conformance/python_versions.py."""

from __future__ import annotations

import json
import os

PLACE: dict[str, str] = json.loads(os.environ["ATOLL_CONFORMANCE"])
