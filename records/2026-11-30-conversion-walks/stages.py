"""Times the stages of a conversion on one core, each image by all ways in turn: `python stages.py PHOTOS [NUMBER]`."""

import collections
import hashlib
import io
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from deit_fast.data.convert import transcode as jpeg
from deit_fast.data.convert.transcode import read_progressive
from deit_fast.data.convert.transcode.encode import TileEncoder
from deit_fast.data.convert.transcode.tile_writer import Scratch, TileWriter, restart_interval
from deit_fast.kernels.jpeg import entropy, scan_halves
from deit_fast.kernels.jpeg.decode_image import ImageDecoder
from deit_fast.kernels.jpeg.turbojpeg import JpegDecoder
from deit_fast.kernels.resample import resize

ROUNDS = 7
best = collections.defaultdict(list)


def timed(name, function, *arguments):
    """Keeps the time of a call by its name, and gives what it gives."""
    started = time.thread_time()
    found = function(*arguments)
    best[name].append(time.thread_time() - started)
    return found


def by_pillow(pixels):
    file = io.BytesIO()
    interval = restart_interval(-(-pixels.shape[1] // 16), 16)
    Image.fromarray(pixels).save(file, "JPEG", quality=90, subsampling="4:2:0", restart_marker_blocks=interval)
    encoded = file.getvalue()
    jpeg.tiling_of(encoded)
    return encoded


def shown_progressive(transcoder, own, encoded, size):
    return own.show(*transcoder.sequential(encoded), *size)


def main():
    files = sorted(Path(sys.argv[1]).rglob("*.jpg"))[: int((sys.argv[2:] or [200])[0])]
    scratch, transcoder = Scratch(), jpeg.Transcoder(optimize=False)
    writer, own, turbo = TileWriter(scratch), ImageDecoder(), JpegDecoder()
    encoder = TileEncoder(90, "4:2:0", optimize=False)
    room = scan_halves.make_room()
    totals = collections.defaultdict(list)
    for file in files:
        best.clear()
        for _ in range(ROUNDS):
            encoded = timed("read the file", file.read_bytes)
            header = timed("read the header", jpeg.read_header, encoded)
            size = header.height, header.width
            timed("hash", lambda data: hashlib.sha256(data).digest(), encoded)
            timed("transcode, all of it", transcoder.transcode, encoded)
            pixels = timed("decode by TurboJPEG", turbo.decode, encoded, *size)[1]
            if header.process == 0xC2:
                found = timed("progressive: read the scans", read_progressive, encoded, header, scratch)
                timed("progressive: write tiles", writer.from_coefficients, found)
                timed("progressive: show", shown_progressive, transcoder, own, encoded, size)
            elif own.decode(encoded, *size) is not None:
                timed("decode by our own decoder", own.decode, encoded, *size)
                for table, definition in jpeg._plan(header).definitions.items():
                    transcoder._tables.define(table, definition)
                num_bytes = timed("unstuff", transcoder._unstuff, encoded, header)
                num_mcus, interval = header.grid[0] * header.grid[1], restart_interval(header.grid[0], header.mcu[0])
                t = transcoder._tables
                tables = t.single, t.steps, t.limits, t.offsets, t.symbols
                events = np.empty((4 * num_mcus + 9, 4), np.int64)
                num_starts = num_mcus * len(header.blocks) + scan_halves.SLACK
                block_starts = np.empty((2, num_starts), np.int64)
                bits, nothing = transcoder._scratch["bits"], np.empty(0, np.int64)
                starts, tokens = np.empty(num_mcus // interval + 1, np.int64), np.empty(1, np.uint32)
                rest = (header.blocks, num_mcus)
                scan = num_mcus, interval, tables, 0, tokens, starts, events
                timed("scan from one place", entropy.scan, bits, num_bytes, nothing, *rest, *scan)
                halves = interval, tables, room, block_starts, events
                timed("scan from two places", scan_halves.scan_halves, bits, num_bytes, *rest, *halves)
            scale = 256 / max(size)
            small = timed("resample to 256", resize, pixels, *(max(1, round(side * scale)) for side in size))
            ours = timed("encode 256 by our own encoder", lambda image: encoder.encode(image)[0], small)
            assert ours == timed("encode 256 by Pillow", by_pillow, small)
        for name, seconds in best.items():
            totals[name].append(min(seconds) * 1000)
    print(f"{len(files)} photographs; ms of one processor an image, least of {ROUNDS}, mean of the images that have the stage")
    for name, each in totals.items():
        print(f"{name:32s} {np.mean(each):7.3f}   {len(each)} images")


main()
