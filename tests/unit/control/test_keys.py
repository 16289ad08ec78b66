import stat
from pathlib import Path

import pytest

from atoll.core.audit import ATOLL
from atoll.core.errors import AuthenticationFailed, InvalidInput, NotFound
from atoll.core.keys import Principal
from atoll.core.quota import UNLIMITED, Quota
from atoll.core.rates import GENEROUS, PRESETS, Rates
from atoll.testing.plane import Plane


async def test_a_key_works_in_every_form_until_it_is_revoked(plane: Plane):
    key, text = await plane.services.keys.create(ATOLL, " mine ")
    assert key.name == "mine"
    digits = text.removeprefix("e2b_")
    for form in (text, f"hopx_live_{digits}", f"hopx_test_{digits}"):
        assert (await plane.services.keys.authenticate(form)).key_id == key.id
    await plane.services.keys.revoke(ATOLL, key.id)
    with pytest.raises(AuthenticationFailed):
        await plane.services.keys.authenticate(text)


@pytest.mark.parametrize("text", [None, "", "nonsense", "e2b_" + "0" * 40, "e2b_\ud800"])
async def test_no_key_or_a_wrong_one_is_refused(plane: Plane, text: str | None):
    with pytest.raises(AuthenticationFailed):
        await plane.services.keys.authenticate(text)


async def test_the_key_itself_is_not_stored(plane: Plane, tmp_path: Path):
    digits = plane.key.removeprefix("e2b_").encode()
    assert not any(digits in path.read_bytes() for path in tmp_path.iterdir())


async def test_last_use_is_written_once_a_minute(plane: Plane):
    async def last_use() -> float | None:
        return (await plane.store.keys.list())[0].last_used_at

    assert await last_use() is None
    await plane.services.keys.authenticate(plane.key)
    first = await last_use()
    assert first == plane.clock.now()
    plane.clock.advance(59)
    await plane.services.keys.authenticate(plane.key)
    assert await last_use() == first
    plane.clock.advance(1)
    await plane.services.keys.authenticate(plane.key)
    assert await last_use() == plane.clock.now()


async def test_an_unknown_key_cannot_be_revoked(plane: Plane):
    with pytest.raises(NotFound):
        await plane.services.keys.revoke(ATOLL, "key_nope")


@pytest.mark.parametrize("name", ["", "   ", "x" * 201])
async def test_a_key_has_a_name(plane: Plane, name: str):
    with pytest.raises(InvalidInput):
        await plane.services.keys.create(ATOLL, name)


async def revoke_all(plane: Plane) -> None:
    from sqlalchemy import delete

    from atoll.store.tables import api_keys

    plane.store.keys._write(delete(api_keys), {})


async def test_the_first_key_is_made_once_and_its_file_is_private(plane: Plane, tmp_path: Path):
    await revoke_all(plane)
    path = tmp_path / "data" / "api-key"
    await plane.services.keys.ensure_first(path)
    text = path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await plane.services.keys.authenticate(text)
    await plane.services.keys.ensure_first(path)
    assert path.read_text().strip() == text
    assert len(await plane.services.keys.list(ATOLL)) == 1


async def test_a_first_key_whose_row_was_lost_is_taken_from_its_file(plane: Plane, tmp_path: Path):
    await revoke_all(plane)
    path = tmp_path / "api-key"
    path.write_text("e2b_" + "ab" * 20 + "\n")
    await plane.services.keys.ensure_first(path)
    await plane.services.keys.authenticate("e2b_" + "ab" * 20)


async def test_with_keys_present_no_file_is_made(plane: Plane, tmp_path: Path):
    await plane.services.keys.ensure_first(tmp_path / "api-key")
    assert not (tmp_path / "api-key").exists()


async def test_what_a_key_may_use_goes_with_everything_it_asks(plane: Plane):
    quota, rates = Quota(sandboxes=3), PRESETS["hopx"]
    key, text = await plane.services.keys.create(ATOLL, "small", quota, rates)
    principal = await plane.services.keys.authenticate(text)
    assert (principal.quota, principal.rates) == (quota, rates)
    changed = await plane.services.keys.limit(ATOLL, key.id, {"vcpu": 8, "sandboxes": None}, {"agent": None})
    assert changed.quota == Quota(vcpu=8)
    assert changed.rates == Rates(control=100, create=20, agent=None)
    assert await plane.services.keys.authenticate(text) == Principal(key.id, 1, changed.quota, changed.rates)


async def test_a_new_key_has_no_quota_and_generous_rates(plane: Plane):
    principal = await plane.services.keys.authenticate(plane.key)
    assert (principal.quota, principal.rates) == (UNLIMITED, GENEROUS)


async def test_an_unknown_key_cannot_be_limited(plane: Plane):
    with pytest.raises(NotFound):
        await plane.services.keys.limit(ATOLL, "key_nope", {}, {})
