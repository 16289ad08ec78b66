import struct

from atoll.engines.native import netlink


def test_attributes_are_padded_to_four_bytes_but_say_their_true_length():
    assert netlink.text(3, "eth0") == struct.pack("=HH", 9, 3) + b"eth0\0\0\0\0"


def test_a_message_says_its_length_and_asks_for_an_answer():
    message = netlink.link_up(7)
    length, kind, flags, _, _ = struct.unpack_from("=IHHII", message)
    assert length == len(message)
    assert kind == netlink.RTM_NEWLINK
    assert flags & netlink.NLM_F_ACK


def test_a_veth_names_both_ends_and_the_namespace():
    message = netlink.new_veth("at1", "eth0", 42)
    assert b"at1\0" in message
    assert b"eth0\0" in message
    assert netlink.u32(netlink.IFLA_NET_NS_FD, 42) in message


def test_the_default_is_unreachable_not_missing():
    message = netlink.no_default_route()
    assert message[16 + 7] == netlink.RTN_UNREACHABLE


def test_a_default_route_takes_the_place_of_the_one_that_is_there():
    message = netlink.default_route("169.254.0.1", 2)
    _, _, flags, _, _ = struct.unpack_from("=IHHII", message)
    assert flags & netlink.NLM_F_REPLACE
    assert not flags & netlink.NLM_F_EXCL
    assert message[16 + 7] == netlink.RTN_UNICAST
    assert bytes([169, 254, 0, 1]) in message


def test_links_are_put_into_a_group_and_go_with_it():
    group = netlink.u32(netlink.IFLA_GROUP, 7)
    into, gone = netlink.into_group("at1", 7), netlink.del_group(7)
    assert b"at1\0" in into
    assert group in into
    assert gone.endswith(group)
    assert struct.unpack_from("=H", gone, 4)[0] == netlink.RTM_DELLINK
    assert struct.unpack_from("=i", gone, 16 + 4)[0] == 0  # no link by its number


def test_a_neighbour_is_known_for_good():
    message = netlink.new_neighbour(2, "169.254.0.1", b"\2at\0\0\1")
    assert struct.unpack_from("=H", message, 16 + 8)[0] == netlink.NUD_PERMANENT
    assert b"\2at\0\0\1" in message
