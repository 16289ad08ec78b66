from atoll.engines.native import privileges


def test_root_inside_keeps_ten_capabilities_and_none_over_the_system():
    assert privileges.KEPT == 0x800404FB
    for bit in (2, 12, 13, 16, 17, 19, 21, 22, 24, 25, 27, 39):  # DAC_READ_SEARCH … SYS_ADMIN … BPF
        assert not privileges.KEPT >> bit & 1


def test_the_bounding_set_is_read_from_the_status_file():
    assert privileges.read_bounding_set("Name:\tx\nCapBnd:\t000001fffeffffff\n") == 0x1FFFEFFFFFF
