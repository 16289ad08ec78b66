import uuid

from atoll.engines.native.birth import new_boot_id


def test_a_boot_id_is_a_random_uuid_as_the_kernel_writes_it():
    ids = {new_boot_id() for _ in range(100)}
    assert len(ids) == 100
    for text in ids:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)
