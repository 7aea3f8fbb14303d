"""How the compiled engine is compiled: by numba, function by function, for the types that each is called with."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

from moe_replay.simulate.compiled.bounds import asked_for, beyond, form_of, forms_of
from moe_replay.simulate.compiled.machine_code import alone, cache_folder, nothing_collected, refuse_changed_sources
from moe_replay.simulate.compiled.pointers import Pointed

OPTIONS = {"nogil": True, "error_model": "numpy"}

compiled = numba.njit(**OPTIONS)
# After a call machine code asks whether it failed, which takes longer than what the smallest functions do.
inlined = numba.njit(**OPTIONS, forceinline=True)


class Entry:
    """A function that Python calls; its machine code, that of all it calls included, is kept on disk.

    numba keeps it in the folder that it is told when a function is declared, and makes it anew when the processor is
    another one or the file of that function changes; for what the function calls `machine_code` names the folder.
    """

    def __init__(self, function: Callable[..., int], records: tuple[np.dtype, ...]) -> None:
        self.name, self.__doc__, self.records = function.__name__, function.__doc__, records
        self.ready: set[bool] = set()  # forms: whether checked
        # Machine code names a record's type by a number that numba counts up in every process. Types that are met in
        # one order everywhere have one number each; else two processes may call two functions the same, and a third,
        # which loads both, runs the wrong one.
        self.types = [numba.typeof(np.zeros(1, form)) for record in records for form in forms_of(record)]
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(cache_folder())
        try:
            self.function = numba.njit(function, cache=True, **OPTIONS)
        finally:
            numba.config.CACHE_DIR = before

    def prepare(self) -> None:
        """Load or, where it is not kept, compile the form that is asked for (`bounds`).

        Threads and processes that want the same at once wait for the first, which compiles it. RuntimeError if the
        sources that would be read now are not those that this process began with.
        """
        if (form := asked_for()) in self.ready:
            return
        refuse_changed_sources()
        with alone(self.name), nothing_collected():
            self.function.compile(tuple(numba.typeof(np.zeros(1, form_of(record))) for record in self.records))
        self.ready.add(form)

    def __call__(self, *parts: Pointed) -> int:
        """Run it on these records; RuntimeError, in the checked form, for an access that was out of bounds."""
        self.prepare()
        try:
            return self.function(*[part.record for part in parts])
        except IndexError as refused:
            raise RuntimeError(beyond(*refused.args)) from None


def entry(*records: np.dtype) -> Callable[[Callable[..., int]], Entry]:
    """Let Python call a function of compiled code that takes arrays of one record each, of these types."""
    return lambda function: Entry(function, records)
