"""Times what one worker of a conversion does, stage by stage: `python worker.py PHOTOS [ROUNDS]`.

Seconds are the processor's, of a stage without the stages that it calls; measuring a call takes about a microsecond.
"""

import sys
import time
from collections import Counter, defaultdict

from deit_fast.config import SourceConfig, WriteConfig
from deit_fast.data.convert import conversion, converter, transcode
from deit_fast.data.convert.decoder import PixelDecoder
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.transcode import tile_writer
from deit_fast.kernels.jpeg import bitstream, encode_blocks, entropy, huffman, progressive, scan_halves

STAGES = [
    (conversion, "sample_digest", "hash"), (conversion, "_fill", "the row"), (PixelDecoder, "checked_jpeg", "header: size"),
    (converter, "jpeg_orientation", "header: orientation"), (PixelDecoder, "check_decodable", "header: by TurboJPEG"),
    (PixelDecoder, "show", "histogram: decode"), (converter, "histograms", "histogram: count"),
    (transcode, "read_header", "header: all of it"), (transcode, "write_header", "header: write"),
    (tile_writer, "write_header", "header: write"), (transcode.Transcoder, "_unstuff", "unstuff, Python"),
    (transcode.Transcoder, "_scan", "scan, Python"), (huffman.HuffmanTables, "define", "take up tables"),
    (transcode.TileWriter, "from_bits", "splice, Python"), (transcode.TileWriter, "from_coefficients", "encode, Python"),
    (transcode.TileWriter, "_shortest", "shortest tables"), (bitstream, "unstuff", "unstuff"),
    (entropy, "scan", "scan from one place"),
    (scan_halves, "scan_halves", "scan from two places"), (entropy, "splice", "splice"),
    (encode_blocks, "count_symbols", "progressive: count symbols"), (encode_blocks, "encode_blocks", "progressive: encode"),
    (progressive, "read_scans", "progressive: read the scans"), (transcode, "read_progressive", "progressive: Python"),
    (transcode.Transcoder, "transcode", "transcode, Python"), (converter.Converter, "_convert", "convert, Python"),
    (conversion.Conversion, "convert_part", "part, Python"),
]  # fmt: skip
seconds, calls = defaultdict(float), Counter()
inner = []


def time_calls(owner, name, stage):
    function = getattr(owner, name)

    def timed(*arguments, **options):
        started = time.thread_time()
        inner.append(0.0)
        try:
            return function(*arguments, **options)
        finally:
            taken = time.thread_time() - started
            seconds[stage] += taken - inner.pop()
            calls[stage] += 1
            if inner:
                inner[-1] += taken

    setattr(owner, name, timed)


def convert(whole):
    started = time.thread_time()
    for part in range(whole.num_parts):
        whole.convert_part(part, lambda sample: None)
    return time.thread_time() - started


source = open_source(SourceConfig(path=sys.argv[1]))
rounds = int((sys.argv[2:] or [3])[0])
whole = conversion.Conversion(source, WriteConfig(out="set.beton"))
convert(whole)
milliseconds = 1000 * convert(whole) / source.num_samples
print(f"{source.num_samples} photographs, {milliseconds:.3f} ms of the processor for each; by stage:")
time_calls(type(source), "read", "read the file")
for stage in STAGES:
    time_calls(*stage)
for _ in range(rounds):
    convert(whole)
num = rounds * source.num_samples
for stage, taken in sorted(seconds.items(), key=lambda item: -item[1]):
    share, each = taken / sum(seconds.values()), 1000 * taken / calls[stage]
    print(f"{stage:28s} {1000 * taken / num:.4f}  {share:6.1%}  {calls[stage] / num:.3f} calls, {each:.4f} each")
