from atoll.engines.native import ids
from atoll.engines.native.claims import Claims


def test_two_installations_never_share_a_generation(tmp_path):
    one, two = Claims(tmp_path, "one"), Claims(tmp_path, "two")
    taken = [claims.take(()) for claims in (one, two)]
    assert len(set(taken)) == 2


def test_a_generation_in_use_is_not_taken_twice(tmp_path):
    claims = Claims(tmp_path, "one")
    first = claims.take(())
    assert claims.take({first}) not in (None, first)


def test_generations_that_begin_at_once_never_share_one(tmp_path):
    """Until they have begun, nobody can say that theirs is in use."""
    claims = Claims(tmp_path, "one")
    first, second = claims.take(()), claims.take(())
    assert first != second
    claims.release(first)
    assert claims.take(()) == first


def test_a_claim_of_a_dead_launcher_of_ours_is_taken_over(tmp_path):
    first = Claims(tmp_path, "one").take(())
    assert Claims(tmp_path, "one").take(()) == first


def test_only_our_own_claims_are_released(tmp_path):
    one, two = Claims(tmp_path, "one"), Claims(tmp_path, "two")
    one.take(())
    theirs = two.take(())
    one.release_all()
    one.release(theirs)
    assert [int(path.name) for path in tmp_path.iterdir()] == [theirs]


def test_when_all_are_claimed_there_is_none(tmp_path):
    other = Claims(tmp_path, "other")
    for generation in range(ids.GENERATIONS):
        assert other.take(range(generation)) == generation
    assert Claims(tmp_path, "one").take(()) is None
