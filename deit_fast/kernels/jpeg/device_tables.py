"""Columns of the tables by which a device finds the JPEGs of a batch and their tiles; all are int64.

Of each JPEG the host sends the header, and the tiles under the views, row after row, as they are stored. One memory holds the
bytes of all; one memory each holds their coefficients, samples and pixels, in which every JPEG has its part.
"""

# One row for each JPEG
FIRST_TILE = 0  # its first row in the table of tiles
TILE_ROWS = 1
TILE_COLUMNS = 2
INTERVAL = 3  # MCUs in a tile
HORIZONTAL = 4  # sampling factors of luma: 1 or 2; those of chroma are 1
VERTICAL = 5
NUM_COMPONENTS = 6  # 1 or 3
ROWS = 7  # of pixels under the tiles, as far as they are in the image
COLUMNS = 8
CODES = (
    9  # offsets in the bytes of up to two pairs of Huffman tables, DC and AC each, in a DHT segment: behind class and number
)
SELECTED = 13  # bit c: component c has the second pair
FACTORS = 14  # offsets in the bytes of the components' quantisation tables, in a DQT segment: at precision and number
FIRST_BLOCK = 17  # of coefficients: 64 int16 each, zeros before; all JPEGs before it have so many
FIRST_SAMPLE = 18  # uint8: planes of luma, then of both chroma components, of whole MCUs
FIRST_PIXEL = 19  # offset in the pixels, in bytes: (ROWS, COLUMNS, 3)
WANTED = 20  # 8 x 8 blocks with wanted samples, of luma, then of chroma: first row, end, first column, end; in the plane
JPEG_LENGTH = 28

# One row for each tile, in the order of rows and columns
JPEG = 0  # number of its JPEG
START = 1  # of its bits, in the bytes
END = 2  # of these, before the marker
NUM_MCUS = 3  # to decode, from the first; 0 for none
IS_WHOLE = 4  # 1: the bits end with these MCUs, up to seven bits
TILE_LENGTH = 5


def num_bit_words(num_bytes: int, num_tiles: int) -> int:
    """Words for the bits of tiles without stuffed bytes: each tile's begin at a word, with two more for each tile before it."""
    return -(-num_bytes // 4) + 2 * num_tiles


# Statuses (N,) int32, zeros before: the greatest that was found; a JPEG with one is left to the CPU
UNSUPPORTED = 1
DAMAGED = 2
