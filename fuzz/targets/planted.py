"""A fault behind four bytes."""


def check(data: bytes) -> None:
    for at, byte in enumerate(b"FUZZ"):
        if data[at : at + 1] != bytes([byte]):
            return
    raise AssertionError("found")
