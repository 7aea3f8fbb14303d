"""Serving a second time, from the text of the rules alone: no line of `simulate.serving` is used.

A pool is played from its first arrival to its last step before the next pool is looked at: prompts do not depend on
decoding. What goes from pool to pool is worked out message by message in between.
"""

from fractions import Fraction

from plain_cluster import PlainStep


class PlainPool:
    """One pool: `D` devices in `N` nodes, `slots[layer]` the expert of every slot, `net` as in PlainStep.

    `budget`, `most` and `chunk` are the engine's. `lengths[s]` = (prompt, decoded); `experts(s, i)` are the experts of
    row i of a sequence, by layer. The rows from `begin[s]` up to `stop[s]` are computed here.
    """

    def __init__(self, D, N, M, slots, net, cost, budget, most, chunk, lengths, experts, begin, stop, shared):
        self.place, self.cost, self.engine = (slots, D, N, M, net), cost, (budget, most, chunk)
        self.lengths, self.experts, self.begin, self.stop = lengths, experts, begin, stop
        self.D, self.shared = D, shared
        self.token_ns = {}  # (sequence, row): when the step that computed it was over

    def run(self, arrivals):
        """Play (time, sequence) in their order; return when the last step ended."""
        now, left, inside = 0, list(arrivals), []
        done = {s: self.begin[s] for _, s in arrivals}
        while left or inside:
            if not inside and left[0][0] > now:
                now = left[0][0]
            step = self.step(now, left, inside, done)
            now += self.takes(step)
            for s, rows in step:
                for i in rows:
                    self.token_ns[s, i] = now
                done[s] += len(rows)
                if done[s] == self.stop[s]:
                    inside.remove(s)
        return now

    def step(self, now, left, inside, done):
        """Return [(sequence, rows)] of the next step; who joins leaves `left` for `inside`."""
        budget, most, chunk = self.engine
        rows = {}
        for wanted in (True, False):  # first those that decode, then prompts that were begun
            for s in inside:
                prompt = self.lengths[s][0]
                if (done[s] >= prompt) == wanted:
                    n = 1 if wanted else min(prompt - done[s], chunk or prompt, budget)
                    rows[s], budget = n, budget - n
        while left and left[0][0] <= now and len(inside) < most:
            s = left[0][1]
            prompt = self.lengths[s][0]
            whole = prompt - done[s]
            n = min(1, budget) if whole <= 0 else min(whole, chunk, budget) if chunk else whole * (whole <= budget)
            if n == 0:
                break
            left.pop(0)
            inside.append(s)
            rows[s], budget = n, budget - n
        return [(s, range(done[s], done[s] + rows[s])) for s in inside if rows.get(s)]

    def takes(self, step):
        """Return how long a step takes."""
        slots, D, N, M, net = self.place
        every = [(s, i) for s, rows in step for i in rows]
        x = [self.experts(s, i) for s, i in every]
        return PlainStep(x, [s % D for s, _ in every], slots, D, N, M, net, self.cost, True, self.shared).run()


def plain_transfers(prompts, per_node, net, nics, first, kv_bytes, from_D, to_D):
    """Return [(when, sequence)] of prompts that were sent, in the order in which they are there.

    `prompts` are (when, sequence, tokens), in the order in which they were made.
    """
    waiting, messages = {}, []
    for when, s, tokens in prompts:
        source, destination = s % from_D, first + s % to_D
        inside = source // per_node == destination // per_node
        latency, rate = net["inside" if inside else "network"]
        wire = 0 if rate == float("inf") else round(Fraction(tokens * kv_bytes * 10**9) / Fraction(rate))
        ports = [
            d if inside else 1000 + d // per_node * nics + d % per_node * nics // per_node
            for d in (source, destination)
        ]
        start = max(when, waiting.get(ports[0], 0))
        waiting[ports[0]] = start + wire
        messages.append((start + latency, ports[0], len(messages), ports[1], wire, s))
    free, there = {}, []
    for head, _, number, port, wire, s in sorted(messages):
        free[port] = max(head, free.get(port, 0)) + wire
        there.append((free[port], port, number, s))
    return [(when, s) for when, _, _, s in sorted(there)]
