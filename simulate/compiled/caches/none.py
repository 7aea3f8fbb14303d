"""No expert memory, compiled: its rule is that of `simulate.policies.caches.none`. Nobody leaves."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.policies.caches.none import NoCache

TWINS = {NoCache: CompiledPolicy(ordered=False)}
