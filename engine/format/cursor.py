"""Reading of a binary stream, with `FormatError` where it is truncated."""

from typing import BinaryIO

from sdtrt.errors import FormatError

MAX_VARINT = 5  # bytes


def read_fully(stream: BinaryIO, nbytes: int) -> bytes:
    """Return the next `nbytes` bytes of a stream, fewer only at its end. A raw stream may need several reads."""
    parts = []
    while nbytes and (part := stream.read(nbytes)):
        parts.append(part)
        nbytes -= len(part)
    return b"".join(parts)


class Cursor:
    """Reads a binary stream from its position on. `consumed` are the bytes so far, for a checksum."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.consumed = bytearray()

    def take(self, nbytes: int) -> bytes:
        """Return the next `nbytes` bytes; `FormatError` if the stream ends before."""
        data = read_fully(self._stream, nbytes)
        if len(data) != nbytes:
            raise FormatError(
                f"truncated file: expected {nbytes} bytes at offset {len(self.consumed)}, found {len(data)}"
            )
        self.consumed += data
        return data

    def byte(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def varint(self) -> int:
        """Return a number coded in LEB128: 7 bits in each byte, lowest first; the top bit marks that more follow."""
        value = 0
        for position in range(MAX_VARINT):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                if position and not byte:
                    raise FormatError("malformed number: its last byte is 0, the encoding is not the shortest")
                return value
        raise FormatError(f"malformed number: longer than {MAX_VARINT} bytes")


def varint(value: int) -> bytes:
    """Return a number coded in LEB128, as `Cursor.varint` reads it."""
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
