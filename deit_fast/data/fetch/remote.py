"""Reads files of other machines: how long they are, whether they are still the same, and their bytes from any position on.

HTTP needs the standard library alone. All other addresses are read by fsspec and what it needs for each kind of server.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from deit_fast.config import UserError

_TIMEOUT_SECONDS = 60.0  # of silence
_PIECE = 1 << 20
_FSSPEC_PIECE = 16 << 20  # one request each
_FOUND = (200, 206)
_GONE = (404, 410)
_TRY_AGAIN = (408, 429)  # and all from 500 on
# what file systems say of a version of a file; the first that is there counts
_MARKS = (
    "ETag",
    "etag",
    "md5Hash",
    "content_hash",
    "generation",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)


@dataclass(frozen=True)
class Version:
    """Which content a file has: its length in bytes, and the server's mark of it (an ETag or a time), empty without any."""

    num_bytes: int
    mark: str


class HasChangedError(Exception):
    """The file is no longer the one that is being copied."""


class LostError(Exception):
    """The connection was lost, or the server is busy: another try is worth while."""


class Remote(Protocol):
    """A file of another machine. Both methods raise LostError. has_ranges: the server sends parts; known after `version`."""

    has_ranges: bool

    def version(self) -> Version | None:
        """Its present version; None if there is no such file. Raises UserError if it may not be read."""

    def stream(self, start: int, end: int, version: Version) -> Iterator[bytes]:
        """Its bytes from start up to end. Raises HasChangedError where it is noticed that the version is another."""


def open_remote(address: str, option: str) -> Remote:
    """The file at an address that `section.name` names. Raises UserError for what is needed to read it and not installed."""
    if address.startswith(("http://", "https://")):
        return _HttpFile(address, option)
    return _FsspecFile(address, option)


def listed_there(address: str, option: str) -> list[str]:
    """The addresses that one with wildcards stands for, sorted. Itself without any, and for HTTP, which lists nothing."""
    if address.startswith(("http://", "https://")) or not re.search(r"[*?\[]", address):
        return [address]
    filesystem, path = _filesystem(address, option)
    try:
        found = sorted(str(one) for one in filesystem.glob(path) if not str(one).endswith(".json"))
    except Exception as error:  # of any library
        raise UserError(f"{option}={address}: cannot be listed: {_reason(error)}; want an address that can be read") from error
    if not found:
        raise UserError(f"{option}={address}: no file has such an address; want betons, made by `deit-fast write`")
    return [str(filesystem.unstrip_protocol(one)) for one in found]


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class _HttpFile:
    """A file at http:// or https://. A server may ignore ranges: what comes before the start is then read and dropped."""

    def __init__(self, address: str, option: str) -> None:
        self._address, self._option = address, option
        self.has_ranges = False

    def version(self) -> Version | None:
        # an address that is signed for GET alone refuses HEAD
        for method, headers in (("HEAD", {}), ("GET", {"Range": "bytes=0-0"})):
            with self._answer(method, headers) as response:
                if response.status in _GONE:
                    return None
                if response.status in _FOUND and (version := _version_of(response)) is not None:
                    self.has_ranges = response.status == 206 or response.headers.get("Accept-Ranges") == "bytes"
                    return version
                if response.status not in _FOUND and method == "GET":
                    raise UserError(
                        f"{self._option}={self._address}: the server answers {response.status} {response.reason}; want an "
                        "address that this machine may read"
                    )
        raise UserError(
            f"{self._option}={self._address}: the server does not say how long the file is; want one that does, or copy the "
            "file first"
        )

    def stream(self, start: int, end: int, version: Version) -> Iterator[bytes]:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if version.mark and not version.mark.startswith("W/"):
            headers["If-Range"] = version.mark
        with self._answer("GET", headers) as response:
            if response.status not in _FOUND or _version_of(response) != version:
                raise HasChangedError
            yield from _pieces(response, start if response.status == 200 else 0, end - start)

    @contextlib.contextmanager
    def _answer(self, method: str, headers: dict[str, str]) -> Iterator[Any]:
        """The server's answer, of any status but those that pass. Raises LostError, also for what fails within the block."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "deit_fast", **headers}
        request = urllib.request.Request(self._address, method=method, headers=headers)
        try:
            try:
                response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
            except urllib.error.HTTPError as error:
                response = error
            with response:
                if response.status in _TRY_AGAIN or response.status >= 500:
                    raise LostError(f"the server answers {response.status} {response.reason}")
                yield response
        except (OSError, http.client.HTTPException) as error:
            raise LostError(_reason(error)) from error


def _version_of(response: Any) -> Version | None:
    """The version of the whole file that a response, of all or of a part of it, is about; None if it does not say."""
    part = re.fullmatch(r"bytes .*/(\d+)", response.headers.get("Content-Range", ""))
    length = part[1] if response.status == 206 and part else response.headers.get("Content-Length")
    mark = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    return None if length is None else Version(int(length), mark)


def _pieces(response: Any, num_dropped: int, num_bytes: int) -> Iterator[bytes]:
    """num_bytes of a response after the first num_dropped. Raises LostError where it ends earlier."""
    while num_dropped or num_bytes:
        piece = response.read(min(_PIECE, num_dropped or num_bytes))
        if not piece:
            raise LostError("the server ended the connection early")
        if num_dropped:
            num_dropped -= len(piece)
            continue
        num_bytes -= len(piece)
        yield piece


class _FsspecFile:
    """A file that fsspec reads."""

    def __init__(self, address: str, option: str) -> None:
        self._name = f"{option}={address}"
        self._filesystem, self._path = _filesystem(address, option)
        self.has_ranges = True

    def version(self) -> Version | None:
        try:
            self._filesystem.invalidate_cache()
            facts = self._filesystem.info(self._path)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise UserError(f"{self._name}: {_reason(error)}; want an address that this machine may read") from error
        except Exception as error:  # of any library
            raise LostError(_reason(error)) from error
        if facts.get("type") == "directory" or facts.get("size") is None:
            raise UserError(f"{self._name}: is no file; want a beton, made by `deit-fast write`")
        mark = next((str(facts[name]) for name in _MARKS if facts.get(name) is not None), "")
        return Version(int(facts["size"]), mark)

    def stream(self, start: int, end: int, version: Version) -> Iterator[bytes]:
        while start < end:
            try:
                piece = self._filesystem.cat_file(self._path, start=start, end=min(start + _FSSPEC_PIECE, end))
            except FileNotFoundError as error:
                raise HasChangedError from error
            except Exception as error:  # of any library
                raise LostError(_reason(error)) from error
            if not piece:
                raise HasChangedError
            yield piece
            start += len(piece)


def _filesystem(address: str, option: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path there. Raises UserError if it, or what it needs, is not installed."""
    try:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        remedy = "pip install 'deit_fast[remote]'" if error.name == "fsspec" else "install that package"
        raise UserError(f"{option}={address}: {_reason(error)}; {remedy}, or copy the file first") from error
    except ValueError as error:  # unknown kind of address
        raise UserError(f"{option}={address}: {_reason(error)}; want an address that fsspec knows, such as s3://") from error
    return filesystem, path
