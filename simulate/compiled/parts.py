"""Lets numba compile an entry as one whole: what it calls is linked in as it is, then optimised and emitted once.

numba optimises every function together with all that it calls, and makes machine code of it, although only the entry at
the top is ever run: the higher a function stands, the more of the same code is worked on again. Documented is that a
function may have a pipeline of its own (`pipeline_class`); what a library of code does is numba's own matter.
"""

from __future__ import annotations

from llvmlite import ir
from llvmlite.binding import Linkage, get_process_triple, parse_assembly
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, StateDict
from numba.core.compiler_machinery import CompilerPass, PassManager
from numba.core.typed_passes import (
    AnnotateTypes,
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NoPythonSupportedFeatureValidation,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import (
    DeadBranchPrune,
    FixupArgs,
    GenericRewrites,
    IRProcessing,
    ReconstructSSA,
    RewriteSemanticConstants,
    TranslateByteCode,
)

NUMBAS_OWN = ("NRT_", "numba_", "Py", "_Py")


class NoAddresses:
    """Stands for the code generator where a function has no address, and so nothing to be told there."""

    @staticmethod
    def set_env(name: str, environment: object) -> None:
        """Do nothing: the environment serves exceptions, which parts never raise."""


class PartLibrary(JITCodeLibrary):
    """The code of one function that only compiled functions call, neither optimised nor emitted by itself."""

    @property
    def codegen(self) -> type[NoAddresses]:
        """Nothing that could give addresses."""
        return NoAddresses

    def _optimize_functions(self, module: object) -> None:
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        """Close the library."""
        self._raise_if_finalized()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0: nothing of this library can be called by its address."""
        return 0

    def _get_module_for_linking(self) -> object:
        if self._shared_module is None:
            module, linked = self._final_module.clone(), {self}
            waiting = list(self._linking_libraries)
            while waiting:
                library = waiting.pop()
                if library in linked:
                    continue
                linked.add(library)
                if isinstance(library, PartLibrary):
                    module.link_in(library._final_module, preserve=True)
                    waiting += library._linking_libraries
                else:
                    module.link_in(library._get_module_for_linking(), preserve=True)
            for function in module.functions:
                if not function.is_declaration and function.linkage == Linkage.external:
                    function.linkage = Linkage.linkonce_odr
            self._shared_module = module
        return self._shared_module


def emitted(library: PartLibrary, symbol: str) -> bytes:
    """Return the object code of one of a library's functions and of all it calls, optimised as a whole.

    Counters of references are left out: the arrays are Python's, which keeps them (`pointers`). RuntimeError if it
    calls anything else of numba's run time, because it is loaded without.
    """
    module = library._get_module_for_linking()
    module.link_in(parse_assembly(str(uncounted())))
    for function in module.functions:
        if not function.is_declaration:
            function.linkage = Linkage.external if function.name == symbol else Linkage.linkonce_odr
    library._final_module = module
    library._optimize_final_module()
    module.verify()
    outside = [each.name for each in module.functions if each.is_declaration and each.name.startswith(NUMBAS_OWN)]
    if outside:
        raise RuntimeError(f"{symbol} calls {', '.join(outside)}, which numba's run time alone has")
    return library._codegen._tm.emit_object(module)


def uncounted() -> ir.Module:
    """Return functions that stand for those that count references, and do nothing."""
    module = ir.Module("uncounted")
    module.triple = get_process_triple()
    for name in ("NRT_incref", "NRT_decref"):
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()]), name)
        function.attributes.add("alwaysinline")
        ir.IRBuilder(function.append_basic_block()).ret_void()
    return module


class PartPasses(PassManager):
    """Runs passes one after another, without telling events and checking numba's own work between them."""

    def _runPass(self, index: int, each: CompilerPass, state: StateDict) -> None:
        each.analysis = self._analysis
        each.run_initialization(state)
        each.run_pass(state)
        each.run_finalizer(state)


class PartCompiler(CompilerBase):
    """numba's passes as far as plain functions over numbers and records need them, into a `PartLibrary`.

    Left out of numba's own pipeline is what is there for closures, `with`, literals, overloads to inline, exceptions
    and expressions of whole arrays; code with any of them is refused, or as slow as it is written.
    """

    PASSES = (
        TranslateByteCode, FixupArgs, IRProcessing, RewriteSemanticConstants, DeadBranchPrune, GenericRewrites,
        ReconstructSSA, DeadBranchPrune, NopythonTypeInference, PreLowerStripPhis, NoPythonSupportedFeatureValidation,
        IRLegalization, AnnotateTypes, NativeLowering, NoPythonBackend,
    )  # fmt: skip

    def define_pipelines(self) -> list:
        """Return the one pipeline."""
        self.state.library = PartLibrary(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        passes = PartPasses("part")
        for each in self.PASSES:
            passes.add_pass(each, each._name)
        passes.finalize()
        return [passes]
