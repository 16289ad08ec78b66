import pytest

from atoll.core.api_paths import is_e2b

E2B = [
    *("/sandboxes", "/sandboxes/", "/sandboxes/x/timeout", "/v2/sandboxes", "/v3/templates", "/v2", "/templates/a/b"),
    *("/default-templates", "/snapshots", "/volumes/x", "/secrets/x"),
]
OTHERS = [
    *("/", "", "/v1/sandboxes", "/v1", "/v22/x", "/v4/x", "/sandboxes2", "/volumecontent/x/file", "/health", "/files"),
    *("sandboxes", "/s/x/sandboxes", "/internal/routes", "/process.Process/Start"),
]


@pytest.mark.parametrize(("path", "expected"), [*((path, True) for path in E2B), *((path, False) for path in OTHERS)])
def test_whose_a_path_is(path: str, expected: bool):
    assert is_e2b(path) is expected
