"""Compiled functions that compiled code calls by their address.

A function that is called by its name becomes part of each of its callers: LLVM optimises it anew there, and in a parallel loop
more than once. Where a call takes long anyway, that is wasted: half of what the loops over a batch took to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.typing import Signature
from numba.extending import intrinsic


class Apart:
    """A compiled function of one signature. In compiled code, `call(address, *arguments)` calls it.

    `address`, an integer, holds in this process alone, and comes to compiled code as an argument: what is cached must not keep
    it.
    """

    def __init__(self, function: Any, signature: Signature) -> None:
        self.function = function
        self.call = _caller_of(signature)
        self._signature = signature
        self._address = 0

    @property
    def address(self) -> int:
        """Of the machine code, which is compiled, or loaded from the cache, the first time."""
        if not self._address:
            function = self.function.cached
            function.compile(self._signature)
            compiled = function.overloads[self._signature.args]
            self._address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
        return self._address


def _caller_of(signature: Signature) -> Callable[..., Any]:
    @intrinsic
    def call(typing_context, address, *arguments):  # type: ignore[no-untyped-def]
        def codegen(context, builder, own_signature, values):  # type: ignore[no-untyped-def]
            address, rest = values
            given = cgutils.unpack_tuple(builder, rest, len(signature.args))
            pairs = zip(given, own_signature.args[1], signature.args, strict=True)
            cast = [context.cast(builder, value, its_type, wanted) for value, its_type, wanted in pairs]
            kind = context.call_conv.get_function_type(signature.return_type, signature.args)
            function = builder.inttoptr(address, kind.as_pointer())
            status, result = context.call_conv.call_function(builder, function, signature.return_type, signature.args, cast)
            with cgutils.if_unlikely(builder, status.is_error):
                context.call_conv.return_status_propagate(builder, status)
            return result

        return signature.return_type(types.intp, types.StarArgTuple(arguments)), codegen

    function: Callable[..., Any] = call
    return function
