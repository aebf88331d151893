"""Lists the files of a tar: their names and the positions of their bytes, with links followed."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from deit_fast.config import UserError
from deit_fast.data.convert.sources.accounts import IN_A_CIRCLE, LeftOut
from deit_fast.data.format.files import read_at

BLOCK = tarfile.BLOCKSIZE
NOWHERE = -1  # the offset of an entry without bytes: a broken link, a device
_MOST_LINKS = 40  # in a path, as in Linux


@dataclass
class TarListing:
    """Files in the order of the tar, with their offsets in the file that holds the tar, NOWHERE for those without bytes.

    `circles`: links to a folder that they lie in, which therefore lead nowhere.
    """

    names: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    circles: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """Name, offset and size of each file."""
        return zip(self.names, self.offsets, self.sizes, strict=True)

    def left_out(self) -> list[LeftOut]:
        return [LeftOut(name, IN_A_CIRCLE) for name in self.circles]

    def add(self, name: str, offset: int, size: int) -> None:
        self.names.append(name)
        self.offsets.append(offset)
        self.sizes.append(size)


def list_tar(descriptor: int, start: int, end: int, location: str) -> TarListing:
    """Lists the tar at bytes start to end of an open file: all members except folders, names without `./`.

    A hard or symbolic link to a file has that file's bytes; a link to a folder stands for the files in it, under its own name.

    Raises UserError with `location` if this is no tar, is damaged, lacks the empty block that ends every tar, or continues
    after it: tarfile would take each of these for the end.
    """
    listing = TarListing()
    links: dict[int, str | None] = {}  # position among the names -> target in the tar; None: outside it
    window = _Window(descriptor, start, end)
    try:
        # the class itself: tarfile.open would try other formats
        with tarfile.TarFile(fileobj=window, mode="r") as tar:  # type: ignore[arg-type]  # read, seek and tell suffice
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all, 1 KB each
                if member.isdir():
                    continue
                name = member.name.removeprefix("./")
                if not member.isreg():
                    if member.islnk():
                        links[len(listing.names)] = member.linkname
                    elif member.issym():
                        is_absolute = member.linkname.startswith("/")
                        links[len(listing.names)] = None if is_absolute else f"{posixpath.dirname(name)}/{member.linkname}"
                    listing.add(name, NOWHERE, 0)
                    continue
                if member.issparse() or member.offset_data + member.size > end - start:
                    what = "is a sparse file" if member.issparse() else "goes beyond the end"
                    raise UserError(f"{location}: truncated or damaged tar: {member.name!r} {what}; fetch it again")
                listing.add(name, start + member.offset_data, member.size)
            stopped = tar.offset
    except UserError:
        raise
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise UserError(f"{location}: not a tar, or damaged: {error}; fetch it again") from error
    except OSError as error:
        raise UserError(f"{location}: cannot be read: {error.strerror or error}") from error
    _check_end(descriptor, start + stopped, end, location, len(listing.names))
    return _followed(listing, links) if links else listing


def _check_end(descriptor: int, at: int, end: int, location: str, num_files: int) -> None:
    """Raises UserError unless an empty block lies there and no further tar follows it."""
    if read_at(descriptor, min(BLOCK, max(end - at, 0)), at) != bytes(BLOCK):
        raise UserError(
            f"{location}: truncated or damaged tar: after {num_files} files comes neither a file nor the end; fetch it again"
        )
    for piece_at in range(at, end, 1 << 20):
        piece = read_at(descriptor, min(1 << 20, end - piece_at), piece_at)
        if piece.count(0) == len(piece):
            continue
        first = (len(piece) - len(piece.lstrip(b"\0"))) // BLOCK * BLOCK
        try:
            tarfile.TarInfo.frombuf(piece[first : first + BLOCK], "utf-8", "surrogateescape")
        except tarfile.TarError:
            return  # no header: leftovers of a tape or a disk
        raise UserError(
            f"{location}: behind its end, {num_files} files, comes another tar; join them by tar --concatenate, or give each "
            "a file of its own"
        )


class _Tree:
    """The folders of a tar, as they would lie on a disk."""

    def __init__(self, names: list[str], links: dict[int, str | None]) -> None:
        self._files: dict[str, int] = {}
        self._in_folder: dict[str, dict[str, None]] = {"": {}}
        self._links = links
        for number, name in enumerate(names):
            path = posixpath.normpath(name).lstrip("/")
            self._files[path] = number  # the later of two with one name, as in unpacking
            while path:
                folder, _, base = path.rpartition("/")
                self._in_folder.setdefault(folder, {})[base] = None
                path = folder

    def follow(self, path: str | None) -> str | None:
        """The path of the file or folder with all links followed; None if it leads nowhere."""
        if path is None:
            return None
        done: list[str] = []
        to_do = path.split("/")[::-1]
        num_links = 0
        while to_do:
            part = to_do.pop()
            if part == ".." and not done:
                return None
            if part == "..":
                done.pop()
            if part in ("..", ".", ""):
                continue
            done.append(part)
            number = self._files.get("/".join(done), -1)
            if number not in self._links:
                continue
            link = self._links[number]
            num_links += 1
            if num_links > _MOST_LINKS or link is None:
                return None
            done = []
            to_do += link.split("/")[::-1]
        found = "/".join(done)
        return found if found in self._files or found in self._in_folder else None

    def number(self, path: str) -> int | None:
        """Position among the names of the file that a followed path leads to; None for a folder."""
        return self._files.get(path)

    def below(self, folder: str, name: str, inside: tuple[str, ...], circles: list[str]) -> Iterator[tuple[str, int | None]]:
        """The files below a followed folder under another name, with the positions of their bytes (None: no bytes)."""
        if folder in inside:
            circles.append(name)
            return
        for base in sorted(self._in_folder[folder]):
            found = self.follow(f"{folder}/{base}" if folder else base)
            if found is not None and self.number(found) is None:
                yield from self.below(found, f"{name}/{base}", (*inside, folder), circles)
            else:
                yield f"{name}/{base}", None if found is None else self.number(found)


def _followed(listing: TarListing, links: dict[int, str | None]) -> TarListing:
    """The listing with its links followed: links to files get bytes, links to folders become the files in them."""
    tree = _Tree(listing.names, links)
    followed = TarListing()

    def add(name: str, number: int | None) -> None:
        place = (NOWHERE, 0) if number is None else (listing.offsets[number], listing.sizes[number])
        followed.add(name, *place)

    for number, name in enumerate(listing.names):
        if number not in links:
            add(name, number)
            continue
        found = tree.follow(links[number])
        if found is None or tree.number(found) is not None:
            add(name, None if found is None else tree.number(found))
            continue
        above = _folders_above(posixpath.normpath(name), tree)
        for path, file in tree.below(found, name, above, followed.circles):
            add(path, file)
    return followed


def _folders_above(path: str, tree: _Tree) -> tuple[str, ...]:
    """The folders that a path lies in, links followed."""
    above = []
    while path:
        path = posixpath.dirname(path)
        above.append(tree.follow(path) or path if path else "")
    return tuple(above)


class _Window:
    """A file object for tarfile over bytes start to end of an open file, with its own position."""

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        self._descriptor, self._start, self._size, self._position = descriptor, start, end - start, 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        self._position = position

    def read(self, size: int) -> bytes:
        content = read_at(self._descriptor, min(size, max(self._size - self._position, 0)), self._start + self._position)
        self._position += len(content)
        return content
