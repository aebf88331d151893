"""Takes the Huffman tables of a JPEG, gives tables that find, count and recode several of its symbols at a time.

An alternating-current (AC) symbol of a baseline JPEG says in its high four bits how many zeros precede a coefficient, in its
low four how many bits of the coefficient follow; 0x00 ends the block, 0xF0 is sixteen zeros. The symbol of a direct-current
(DC) difference is its number of bits. Tables 0..3 are the DC tables of a JPEG, 4..7 its AC tables.

A token is what one look into the coming bits of a scan finds, in 32 bits: a kind in the bits from 26 up, and 26 bits:
    kind 0..3    AC table `kind`: the coming 26 bits; their first LOOKUP_BITS decide which symbols are taken from them, all
                 with their extra bits inside the LOOKUP_BITS, or one with up to 26 bits
    kind 4..7    DC table `kind - 4`: symbol << 22 | extra bits
    kind 8..11   AC table `kind - 8`: symbol << 18 | extra bits
so that `token >> (26 - LOOKUP_BITS)` is an index by which tokens can be counted and recoded without a branch.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from deit_fast.kernels.compiled import compiled

LOOKUP_BITS = 11  # with 12 or 13 a photograph's scan is 4 % faster, counting and recoding take two or three times as long
WINDOWS = 1 << LOOKUP_BITS
INDEX_SHIFT = 26 - LOOKUP_BITS
MAX_SYMBOLS = 3  # of a look: three codes of 16 bits and their extra bits still fit into the 57 bits that `entropy.recode` takes
STEP_SHIFT = 6  # a step: number of bits | coefficients advanced << STEP_SHIFT
ENDS = 128  # added to the advance of a step that ends its block
UNKNOWN = 256  # the advance where the lookup does not know

MAX_DC_BITS = 11
MAX_AC_BITS = 10


class CodeTables:
    """The codes of symbols in tables of JPEGs: lengths in bits, 0 where a symbol has none."""

    def __init__(self) -> None:
        self.lengths = np.zeros((8, 256), np.uint8)
        self.codes = np.zeros((8, 256), np.uint16)

    def define(self, table: int, definition: bytes) -> bool:
        """Whether a definition (16 counts of codes by length, then the symbols) is sound; then it is the table's."""
        return bool(define(np.frombuffer(definition, np.uint8), table < 4, self.lengths[table], self.codes[table]))


class HuffmanTables(CodeTables):
    """The tables of a JPEG the other way round too: from coming bits to symbols."""

    def __init__(self) -> None:
        super().__init__()
        self.single = np.zeros((8, WINDOWS), np.uint16)  # symbol << 8 | bits of its code, 0: a longer code, or none
        self.steps = np.zeros((8, WINDOWS), np.uint16)  # bits | coefficients advanced << STEP_SHIFT
        # by length of codes: the first 16 bits that are too great for it, and what leads from a code to its symbol's place
        self.limits = np.zeros((8, 17), np.int32)
        self.offsets = np.zeros((8, 17), np.int32)
        self.symbols = np.zeros((8, 256), np.uint8)
        self._definitions: dict[int, bytes] = {}

    def define(self, table: int, definition: bytes) -> bool:
        """As for CodeTables; does nothing where the definition is the table's already."""
        if self._definitions.get(table) != definition:
            self._definitions.pop(table, None)
            if not super().define(table, definition):
                return False
            bits = np.frombuffer(definition, np.uint8)
            invert(bits, self.codes[table], self.single[table], self.limits[table], self.offsets[table], self.symbols[table])
            _find_steps(self.single[table], table < 4, self.steps[table])
            self._definitions[table] = definition
        return True


@compiled()
def define(definition, is_dc, lengths, codes):  # type: ignore[no-untyped-def]
    """Whether a definition (16 counts by length, then the symbols) is sound; writes lengths and codes (256,) by symbol."""
    lengths[:] = 0
    code = 0
    place = 16
    for length in range(1, 17):
        count = np.int64(definition[length - 1])
        if count > 0 and code + count >= 1 << length:  # the code of ones alone is not allowed
            return False
        for _ in range(count):
            symbol = definition[place]
            if lengths[symbol] != 0 or (is_dc and symbol > 15):
                return False
            lengths[symbol] = length
            codes[symbol] = code
            code += 1
            place += 1
        code <<= 1
    return True


@compiled()
def invert(definition, codes, single, limits, offsets, symbols):  # type: ignore[no-untyped-def]
    """Fills one table's rows of what finds symbols, see `HuffmanTables`, from a sound definition and its codes."""
    single[:] = 0
    limits[:] = 0
    place = 0
    for length in range(1, 17):
        for _ in range(definition[length - 1]):
            symbol = np.int64(definition[16 + place])
            code = np.int64(codes[symbol])
            symbols[place] = symbol
            offsets[length] = place - code
            limits[length] = (code + 1) << (16 - length)
            if length <= LOOKUP_BITS:
                first = code << (LOOKUP_BITS - length)
                single[first : first + (1 << (LOOKUP_BITS - length))] = (symbol << 8) | length
            place += 1


@register_jitable(inline="always")
def is_coefficient(symbol):  # type: ignore[no-untyped-def]
    """Whether an AC symbol is one of 8-bit baseline: not more bits than a coefficient has, no end of band."""
    return (symbol & 15) <= MAX_AC_BITS and ((symbol & 15) != 0 or symbol == 0 or symbol == 0xF0)


@register_jitable(inline="always")
def _bits_taken(entry, used):  # type: ignore[no-untyped-def]
    """Bits of the symbol of an entry of `single`; 0: there is none, or a look that has used some bits does not hold it."""
    length = (entry & 255) + ((entry >> 8) & 15)
    is_taken = entry != 0 and is_coefficient(entry >> 8) and (used == 0 or used + length <= LOOKUP_BITS)
    return length if is_taken else 0


@compiled()
def _find_steps(single, is_dc, steps):  # type: ignore[no-untyped-def]
    for window in range(WINDOWS):
        used = 0
        advance = 0
        for _ in range(MAX_SYMBOLS):
            entry = np.int64(single[(window << used) & (WINDOWS - 1)])
            if is_dc:
                used = (entry & 255) + (entry >> 8) if entry != 0 and entry >> 8 <= MAX_DC_BITS else 0
                advance = 1
                break
            taken = _bits_taken(entry, used)
            if taken == 0:
                break
            used += taken
            if entry >> 8 == 0:
                advance += ENDS
                break
            advance += (entry >> 12) + 1
        steps[window] = (used | (advance << STEP_SHIFT)) if used > 0 else (UNKNOWN << STEP_SHIFT)


@compiled()
def symbol_of(bits, limits, offsets, symbols):  # type: ignore[no-untyped-def]
    """Symbol << 8 | bits of its code, from the coming bits (left-aligned in 64) and one table's rows; -1: a code of none."""
    coming = np.int64(bits >> np.uint64(48))
    for length in range(1, 17):
        if coming < limits[length]:
            return (np.int64(symbols[(coming >> (16 - length)) + offsets[length]]) << 8) | length
    return np.int64(-1)


@compiled()
def count_symbols(tokens, num_tokens, single, counts, frequencies):  # type: ignore[no-untyped-def]
    """Counts tokens (>= num_tokens,) uint32 by index into counts (12 * WINDOWS,), and symbols into frequencies (8, 256)."""
    counts[:] = 0
    frequencies[:] = 0
    for place in range(num_tokens):
        counts[tokens[place] >> np.uint32(INDEX_SHIFT)] += 1
    for table in range(4):
        for size in range(16):
            frequencies[table, size] += counts[((4 + table) << LOOKUP_BITS) + (size << (LOOKUP_BITS - 4))]
        for symbol in range(256):
            frequencies[4 + table, symbol] += counts[((8 + table) << LOOKUP_BITS) + (symbol << (LOOKUP_BITS - 8))]
        for window in range(WINDOWS):
            count = counts[(table << LOOKUP_BITS) + window]
            used = 0
            for _ in range(MAX_SYMBOLS if count > 0 else 0):
                entry = np.int64(single[4 + table, (window << used) & (WINDOWS - 1)])
                taken = _bits_taken(entry, used)
                if taken == 0:
                    break
                used += taken
                frequencies[4 + table, entry >> 8] += count
                if entry >> 8 == 0:
                    break


@compiled()
def best_table(frequencies, definition):  # type: ignore[no-untyped-def]
    """Number of bytes of the shortest Huffman table for frequencies (256,), written to definition (272,) as a JPEG's.

    After annex K.2 of the JPEG standard: codes have at most 16 bits, and a symbol of least frequency that is not written
    takes the code of ones alone.
    """
    order = np.empty(257, np.int64)  # symbols by frequency; the one not written, 256, is first
    order[0] = 256
    num = 1
    for symbol in range(255, -1, -1):
        if frequencies[symbol] > 0:
            place = num
            while place > 1 and frequencies[order[place - 1]] > frequencies[symbol]:
                order[place] = order[place - 1]
                place -= 1
            order[place] = symbol
            num += 1
    depths = _depths(frequencies, order, num)
    counts = np.zeros(num + 17, np.int64)
    for place in range(num):
        counts[depths[place]] += 1
    for length in range(num + 16, 16, -1):
        while counts[length] > 0:
            other = length - 2
            while counts[other] == 0:
                other -= 1
            counts[length] -= 2
            counts[length - 1] += 1
            counts[other + 1] += 2
            counts[other] -= 1
    longest = 16
    while counts[longest] == 0:
        longest -= 1
    counts[longest] -= 1  # the symbol that is not written
    for length in range(1, 17):
        definition[length - 1] = counts[length]
    # the most frequent symbols, which are last, take the shortest codes
    for place in range(num - 1):
        definition[16 + place] = order[num - 1 - place]
    return 16 + num - 1


@compiled()
def _depths(frequencies, order, num):  # type: ignore[no-untyped-def]
    """Depth in a Huffman tree of each of num > 1 symbols in increasing order of frequency; joined nodes increase as well."""
    weights = np.empty(2 * num, np.int64)
    parents = np.zeros(2 * num, np.int64)
    for place in range(num):
        weights[place] = frequencies[order[place]] if order[place] < 256 else 1
    leaf = 0
    joined = num
    for node in range(num, 2 * num - 1):
        weights[node] = 0
        for _ in range(2):
            if leaf < num and (joined >= node or weights[leaf] <= weights[joined]):
                least = leaf
                leaf += 1
            else:
                least = joined
                joined += 1
            weights[node] += weights[least]
            parents[least] = node
    depths = np.zeros(2 * num, np.int64)
    for node in range(2 * num - 3, -1, -1):
        depths[node] = depths[parents[node]] + 1
    return depths


@compiled()
def find_recodings(counts, single, new_lengths, new_codes, recodings):  # type: ignore[no-untyped-def]
    """Number of bits of the recoded scan; writes how to recode each token that occurs, by index.

    counts (12 * WINDOWS,) of tokens; single: of the old tables; new_lengths, new_codes (8, 256): of the new. recodings
    (12 * WINDOWS, 2) uint64: the bits to write; their number | how many of the token's bits to put at their end << 8 | by how
    many bits to shift the token to the right for these << 16.
    """
    total = np.int64(0)
    for index in range(counts.size):
        if counts[index] == 0:
            continue
        kind = index >> LOOKUP_BITS
        window = index & (WINDOWS - 1)
        bits = np.uint64(0)
        length = np.int64(0)
        used = np.int64(0)
        extra = np.int64(0)  # of the token's bits are put at the end of bits
        if kind >= 4:
            table = kind - 4
            symbol = window >> (LOOKUP_BITS - (4 if kind < 8 else 8))
            extra = symbol & 15
            bits = np.uint64(new_codes[table, symbol]) << np.uint64(extra)
            length = np.int64(new_lengths[table, symbol]) + extra
            used = np.int64(26)
        else:
            table = 4 + kind
            for _ in range(MAX_SYMBOLS):
                entry = np.int64(single[table, (window << used) & (WINDOWS - 1)])
                taken = _bits_taken(entry, used)
                if taken == 0:
                    break
                symbol = entry >> 8
                size = symbol & 15
                bits = ((bits << np.uint64(new_lengths[table, symbol])) | np.uint64(new_codes[table, symbol])) << np.uint64(
                    size
                )
                length += np.int64(new_lengths[table, symbol]) + size
                used += taken
                if used > LOOKUP_BITS:
                    extra = size
                    break
                bits |= np.uint64((window >> (LOOKUP_BITS - used)) & ((1 << size) - 1))
                if symbol == 0:
                    break
        recodings[index, 0] = bits
        recodings[index, 1] = length | (extra << 8) | ((26 - used if extra > 0 else 0) << 16)
        total += length * counts[index]
    return total
