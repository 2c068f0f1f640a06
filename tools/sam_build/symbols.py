"""Takes the symbol tables and what is for debuggers out of a shared library of Linux, whatever its processor."""

import struct

_64_BIT_LITTLE_ENDIAN = b"\x7fELF\2\1"


def without_symbols(library: bytes) -> bytes:
    """A library without all that is not loaded when it runs: the end of the file, and the table of the sections.

    The loader reads the program headers, which name what is loaded, and what it links by is among that. ``strip`` of
    binutils does the same, for its own processor only. What is no 64-bit little-endian ELF file is returned as it is.
    """
    if library[:6] != _64_BIT_LITTLE_ENDIAN:
        return library
    (headers,) = struct.unpack_from("<Q", library, 32)
    size, number = struct.unpack_from("<HH", library, 54)
    end = headers + size * number
    for index in range(number):
        start, length = struct.unpack_from("<Q16xQ", library, headers + index * size + 8)
        end = max(end, start + length)
    loaded = bytearray(library[:end])
    struct.pack_into("<Q", loaded, 40, 0)  # where the table of the sections is
    struct.pack_into("<HHH", loaded, 58, 0, 0, 0)  # the size of its entries, their number, and that of their names
    return bytes(loaded)
