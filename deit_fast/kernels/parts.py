"""Compiled functions as parts of their callers: typed once, optimised and turned into machine code where they end up.

Numba makes a library of each function that another calls: two wrappers for Python, a full optimisation of it with copies of all
that it calls, machine code, and a file in the cache. Of a function that only compiled code calls, none of it is ever used: the
caller takes the function in before it is optimised, and optimises it again. Left out, compilation takes 0.6 of the time; left
out of what Numba compiles of its own too, for `np.empty` or `max`, 0.95 of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import compiler, typed_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import register_pass
from numba.core.registry import CPUDispatcher
from numba.core.target_extension import CPU, dispatcher_registry, jit_registry, target_registry

TARGET = "deit_fast"  # its name for Numba


class _Library(JITCodeLibrary):
    """A function and all that it calls in LLVM's representation, for callers to take in; it never becomes machine code."""

    def finalize(self) -> None:
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._final_module.verify()
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(typed_passes.NativeLowering):
    """Numba's lowering, into a `_Library` and without wrappers."""

    _name = "inner_lowering"

    def run_pass(self, state: Any) -> bool:
        flags = state.flags
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        super().run_pass(state)
        # callers find the function's library by what would otherwise be the function for Python
        key = object()
        state.targetctx.insert_user_function(key, state.cr.fndesc, [state.library])
        state.cr = state.cr._replace(cfunc=key)
        return True


class _Compiler(compiler.CompilerBase):
    def define_pipelines(self) -> list[Any]:
        passes = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        own = {typed_passes.NativeLowering: _Lowering}
        passes.passes = [(own.get(kind, kind), words) for kind, words in passes.passes]
        passes.finalize()
        return [passes]


class Whole(CPUDispatcher):
    """A function with machine code of its own; `numba.njit(_target=TARGET)` makes it."""

    def compile(self, sig: Any) -> Any:
        with global_compiler_lock:
            former, self.targetctx.target = self.targetctx.target, _Target
            try:
                return super().compile(sig)
            finally:
                self.targetctx.target = former


class Part(Whole):
    """A function that compiled code takes in."""

    def __init__(
        self,
        py_func: Callable[..., Any],
        locals: dict[str, Any] | None = None,
        targetoptions: dict[str, Any] | None = None,
        pipeline_class: type = _Compiler,
    ) -> None:
        super().__init__(py_func, locals or {}, targetoptions or {}, pipeline_class)

    def add_overload(self, compiled: Any) -> None:
        self.overloads[tuple(compiled.signature.args)] = compiled  # and not for Python


class _Target(CPU):
    """Numba's target "cpu", where what it compiles of its own for our functions is made of `Part`s."""


def _numbas_own(**options: Any) -> Callable[[Callable[..., Any]], Part]:
    """What Numba takes for numba.jit, in our functions, to compile what it has for `np.empty` and the like."""
    return lambda function: Part(function, targetoptions={**options, "nopython": True})


target_registry[TARGET] = _Target
dispatcher_registry[_Target] = Whole
jit_registry[_Target] = _numbas_own
