"""A fixed set of experts, compiled: its rule is that of `simulate.policies.caches.static`. Nobody leaves."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.policies.caches.static import Static

TWINS = {Static: CompiledPolicy(ordered=False)}
