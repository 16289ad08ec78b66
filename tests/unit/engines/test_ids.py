from atoll.engines.native import ids


def test_slices_of_a_generation_do_not_overlap():
    slices = ids.Slices(3)
    taken = []
    while (s := slices.take()) is not None:
        taken.append(s)
    bases = [s.host_base for s in taken]
    assert len(set(bases)) == ids.SLICES - 1
    assert min(bases) >= ids.generation_base(3) + ids.SLICE  # slice 0 is the zygotes' own
    assert max(bases) + ids.SLICE <= ids.generation_base(4)


def test_the_longest_unused_slice_is_taken_next():
    slices = ids.Slices(0)
    first = slices.take()
    assert first is not None
    slices.give_back(first)
    assert slices.take() != first


def test_numbers_are_unique_across_generations_and_every_id_fits_32_bits():
    last = ids.Slice(ids.GENERATIONS - 1, ids.SLICES - 1)
    assert last.host_base + ids.SLICE < 2**32 - 1
    assert ids.Slice(1, 1).number != ids.Slice(0, 1).number
