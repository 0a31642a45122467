"""Reading: a binary stream that gives exactly what is asked for, or says that it is cut short."""

from typing import BinaryIO

from sdtrt.errors import FormatError

MAX_VARINT = 5  # bytes


def read_fully(stream: BinaryIO, nbytes: int) -> bytes:
    """Return the next bytes of a stream, fewer only where it ends; unbuffered ones may give them in pieces."""
    parts = []
    while nbytes and (part := stream.read(nbytes)):
        parts.append(part)
        nbytes -= len(part)
    return b"".join(parts)


class Cursor:
    """Takes bytes one after the other from a binary stream, and remembers them for a checksum."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.taken = bytearray()

    def take(self, nbytes: int) -> bytes:
        """Return the next bytes; `FormatError` if there are fewer."""
        data = read_fully(self._stream, nbytes)
        if len(data) != nbytes:
            raise FormatError(
                f"truncated file: {nbytes} bytes expected at offset {len(self.taken)}, {len(data)} are there"
            )
        self.taken += data
        return data

    def byte(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def varint(self) -> int:
        """Return a number in groups of 7 bits, lowest first, the top bit set on all but the last (LEB128)."""
        value = 0
        for position in range(MAX_VARINT):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                if position and not byte:
                    raise FormatError("malformed number: it is longer than it needs to be")
                return value
        raise FormatError(f"malformed number: more than {MAX_VARINT} bytes")


def varint(value: int) -> bytes:
    """Return what `Cursor.varint` reads."""
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
