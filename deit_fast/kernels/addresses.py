"""What holds addresses in this process's memory is refused where somebody pickles or copies it."""

from __future__ import annotations

from typing import NoReturn


class HoldsAddresses:
    """A base class for what points into memory: in another process, or once the original is gone, there is other memory."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} holds addresses in the memory of this process, and is neither pickled nor copied; make "
            "another one where it is wanted, or send the loader or the operation that it belongs to"
        )
