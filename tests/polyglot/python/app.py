"""The jobs in Python."""

from math import nan

from wit_world import exports
from wit_world.exports.jobs import Summary
from componentize_py_types import Err


class Jobs(exports.Jobs):
    def add(self, a: int, b: int) -> int:
        return (a + b + 2**31) % 2**32 - 2**31

    def greet(self, name: str) -> str:
        return f"Hello, {name}!"

    def stats(self, values: list[float]) -> Summary:
        if not values:
            return Summary(0, nan, nan, nan)
        return Summary(len(values), sum(values) / len(values), min(values), max(values))

    def parse(self, text: str) -> int:
        # `isdecimal` alone would let digits of other scripts in.
        if text.isascii() and text.isdecimal() and int(text) < 2**32:
            return int(text)
        raise Err(f"not a number: {text}")

    def checksum(self, data: bytes) -> int:
        hash = 0xCBF29CE484222325
        for byte in data:
            hash = (hash ^ byte) * 0x100000001B3 % 2**64
        return hash
