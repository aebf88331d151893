"""Turns progressive, arithmetic and other JPEGs losslessly into sequential JPEGs of one scan, with TurboJPEG."""

from __future__ import annotations

import ctypes
from typing import Any

from deit_fast.data.convert.transcode.header import NotTranscodable
from deit_fast.kernels.addresses import HoldsAddresses
from deit_fast.kernels.jpeg import turbojpeg


class _Transform(ctypes.Structure):
    """TurboJPEG's `tjtransform`: all zero copies the picture, with options."""

    _fields_ = (
        ("region", ctypes.c_int * 4),
        ("operation", ctypes.c_int),
        ("options", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("filter", ctypes.c_void_p),
    )


_COPY_NO_MARKERS = 64  # TJXOPT_COPYNONE
_STOP_ON_WARNING = 8192  # TJFLAG_STOPONWARNING
_LIMIT_SCANS = 32768  # TJFLAG_LIMITSCANS: a small file can demand thousands of scans
_WARNING = 0  # TJERR_WARNING: damage that decoders ignore


class Transformer(HoldsAddresses):
    """TurboJPEG's lossless transform; `close` frees it."""

    def __init__(self) -> None:
        self._library: Any = turbojpeg.turbojpeg
        self._library.tjInitTransform.restype = ctypes.c_void_p
        self._library.tjFree.argtypes = [ctypes.c_void_p]
        self._library.tjGetErrorCode.argtypes = [ctypes.c_void_p]
        self._handle: int | None = self._library.tjInitTransform()
        assert self._handle

    def transform(self, encoded: bytes, kind: str) -> bytes:
        """The JPEG as one scan; raises NotTranscodable with the kind of JPEG and TurboJPEG's reason."""
        destination, size = ctypes.c_void_p(), ctypes.c_ulong()
        how = _Transform(options=_COPY_NO_MARKERS)
        status = self._library.tjTransform(
            ctypes.c_void_p(self._handle),
            encoded,
            ctypes.c_ulong(len(encoded)),
            1,
            ctypes.byref(destination),
            ctypes.byref(size),
            ctypes.byref(how),
            _STOP_ON_WARNING | _LIMIT_SCANS,
        )
        try:
            if status != 0:
                text = self._library.tjGetErrorStr2(self._handle).decode(errors="replace")
                is_damaged = self._library.tjGetErrorCode(self._handle) == _WARNING
                raise NotTranscodable(f"{'damaged: ' if is_damaged else ''}{kind}: {text}")
            return ctypes.string_at(destination, size.value)
        finally:
            self._library.tjFree(destination)

    def close(self) -> None:
        if self._handle:
            self._library.tjDestroy(self._handle)
            self._handle = None
