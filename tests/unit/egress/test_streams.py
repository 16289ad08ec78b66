from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest

from atoll.egress.authority import Authority, make, now_utc
from atoll.egress.streams import PIECES_A_ROUND, PlainStream, TlsStream, Turns, join, read_exactly, trusting

NAME = "example.com"


def pair() -> tuple[socket.socket, socket.socket]:
    made = socket.socketpair()
    for each in made:
        each.setblocking(False)
    return made


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(*make("test", now_utc()))


async def tls_pair(authority: Authority) -> tuple[TlsStream, TlsStream]:
    one, other = pair()
    context = trusting(protocols=["http/1.1"])
    context.load_verify_locations(cadata=authority.pem)
    client = TlsStream(PlainStream(one), context, NAME)
    server = TlsStream(PlainStream(other), authority.context(NAME))
    await asyncio.gather(client.handshake(), server.handshake())
    return client, server


async def test_what_was_read_before_comes_first_and_is_counted():
    one, other = pair()
    stream = PlainStream(one, b"before")
    other.send(b"after")
    assert await read_exactly(stream, 11) == b"beforeafter"
    assert stream.bytes_in == 11
    assert stream.take() == (one, b"")
    stream.close()
    assert await asyncio.get_running_loop().sock_recv(other, 1) == b""
    other.close()


async def test_an_end_in_the_middle_is_an_error():
    one, other = pair()
    other.send(b"abc")
    other.close()
    stream = PlainStream(one)
    with pytest.raises(ConnectionError):
        await read_exactly(stream, 4)
    stream.close()


async def test_a_large_write_in_tls_arrives_while_the_other_side_writes_too(authority):
    client, server = await tls_pair(authority)
    data = bytes(range(256)) * 20_000

    async def both(stream: TlsStream) -> bytes:
        _, got = await asyncio.gather(stream.write(data), read_exactly(stream, len(data)))
        return got

    assert await asyncio.gather(both(client), both(server)) == [data, data]
    assert client.bytes_out == server.bytes_in > len(data)
    client.close()
    server.close()


async def test_an_end_that_was_said_is_an_end_and_one_that_just_happens_is_none(authority):
    client, server = await tls_pair(authority)
    await client.finish()
    assert await server.read() == b""
    await server.write(b"still")
    assert await client.read() == b"still"
    client.close()
    server.close()
    client, server = await tls_pair(authority)
    await server.write(b"half")
    server.abort()
    assert await client.read() == b"half"
    with pytest.raises(ssl.SSLError):
        await client.read()
    client.close()


async def test_joined_streams_pass_ends_on(authority):
    client, server = await tls_pair(authority)
    one, other = pair()
    joining = asyncio.ensure_future(join(server, PlainStream(one)))
    far = PlainStream(other)
    await client.write(b"there")
    assert await far.read() == b"there"
    await client.finish()
    assert await far.read() == b""
    await far.write(b"back")
    assert await client.read() == b"back"
    await far.finish()
    assert await client.read() == b""
    await joining
    for each in (client, server, far):
        each.close()
    one.close()


async def test_when_one_breaks_the_other_is_not_copied_on():
    (a, b), (c, d) = pair(), pair()
    joining = asyncio.ensure_future(join(PlainStream(b), PlainStream(c)))
    PlainStream(a).abort()
    d.close()
    with contextlib.suppress(OSError):
        await joining
    assert joining.done()
    b.close()
    c.close()


async def test_only_so_many_pieces_move_in_one_round_and_everybody_has_his_turn():
    turns, order = Turns(), []

    async def busy(number: int) -> None:
        for _ in range(3):
            await turns.next()
            order.append(number)

    workers = [asyncio.ensure_future(busy(number)) for number in range(PIECES_A_ROUND * 4)]
    most, before = 0, 0
    while not all(each.done() for each in workers):
        await asyncio.sleep(0)
        most, before = max(most, len(order) - before), len(order)
    assert 0 < most <= PIECES_A_ROUND
    assert order[: PIECES_A_ROUND * 4] == list(range(PIECES_A_ROUND * 4))


async def test_who_leaves_while_waiting_takes_nobodys_turn():
    turns = Turns()
    waiting = [asyncio.ensure_future(turns.next()) for _ in range(PIECES_A_ROUND + 2)]
    await asyncio.sleep(0)
    for each in waiting[:-1]:
        each.cancel()
    async with asyncio.timeout(5):
        await waiting[-1]
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_one_who_has_much_to_do_is_no_longer_before_another_than_a_round():
    turns, taken = Turns(), []

    async def work(owner: str) -> None:
        await turns.next(owner)
        taken.append(owner)

    await asyncio.gather(*(work("busy") for _ in range(1000)), work("other"))
    assert len(taken) == 1001
    assert taken.index("other") < PIECES_A_ROUND
