"""The rules of simulate/README.md ("Queues") once more, as literally and slowly as possible: to hold engines against.

Shares the workload, the arrival processes and the placement with the real thing, and nothing else: no stages, no
counters, no lists per device, no lazily deleted time-outs. Everything is looked up anew in every round.
"""

from moe_replay.simulate.policies.arrivals import ARRIVALS
from moe_replay.simulate.policies.placement import place


class Literal:
    def __init__(self, workload, config, cost):
        self.work, self.config, self.cost = workload, config, cost
        self.device_LB = place(config.placement, workload.layers, workload.experts, config.devices)
        self.arrivals = ARRIVALS[config.arrivals](workload, config)
        blocks = [(layer, block) for layer in range(workload.layers + 1) for block in range(workload.experts + 1)]
        self.queues = {key: [] for key in blocks}  # of (member, since when)
        self.ready = []  # (layer, block, since when, forced), in the order of the list
        self.running = []  # batches
        self.unserved = {}  # (pass, layer, dense or experts) -> members that are not done
        self.log = []
        self.end_ns = {}

    def size(self, key):
        dense = self.config.dense_queue_size
        return dense if key[1] == 0 and dense is not None else self.config.queue_size

    def members(self, p, layer, dense):
        """Return (block, member) of a pass's stage, in the order in which they are enqueued."""
        if dense:
            return [(0, p)] if self.config.dense else []
        if layer == self.work.layers:
            return []
        first, row = int(self.work.token_offset_P[p]), int(self.work.first_row_P[p])
        chosen = self.work.experts_TLK[row : row + int(self.work.tokens_P[p]), layer].tolist()
        return [(1 + e, first + i) for i, experts in enumerate(chosen) for e in experts if e >= 0]

    def enter(self, p, layer, dense, now):
        """Enqueue a pass's stage; return True if it has none left and is finished."""
        while layer <= self.work.layers:
            members = self.members(p, layer, dense)
            if members:
                for block, member in members:
                    self.queues[layer, block].append((member, now))
                self.unserved[p] = (layer, dense, len(members))
                return False
            layer, dense = (layer, False) if dense else (layer + 1, True)
        self.end_ns[p] = now
        return True

    def complete(self, batch, now):
        """Count a batch as done; return the passes that finish."""
        finished = []
        for member in batch["members"]:
            p = member if batch["block"] == 0 else int(self.work.pass_N[member])
            layer, dense, left = self.unserved[p]
            self.unserved[p] = (layer, dense, left - 1)
            next_stage = (layer, False) if dense else (layer + 1, True)
            if left == 1 and self.enter(p, *next_stage, now):
                finished.append(p)
        return finished

    def is_listed(self, key):
        return any((layer, block) == key for layer, block, _, _ in self.ready)

    def is_ready(self, key, now):
        queue, timeout = self.queues[key], self.config.timeout_ns
        return len(queue) >= self.size(key) or bool(queue and timeout is not None and queue[0][1] + timeout <= now)

    def take(self, device, now):
        """Let a free device take the first ready queue placed on it."""
        for position, (layer, block, since, forced) in enumerate(self.ready):
            if self.device_LB[layer, block] == device:
                del self.ready[position]
                key = (layer, block)
                size = self.size(key)
                members = [member for member, _ in self.queues[key][:size]]
                self.queues[key] = self.queues[key][size:]
                tokens = len(members) if block else sum(int(self.work.tokens_P[p]) for p in members)
                end = now + self.cost(layer, block, tokens)
                batch = {"device": device, "layer": layer, "block": block, "members": members, "tokens": tokens}
                batch |= {"ready_ns": since, "start_ns": now, "end_ns": end, "forced": forced}
                self.log.append(batch)
                self.running.append(batch)
                if self.is_ready(key, now):
                    self.ready.append((layer, block, now, False))
                return

    def round(self, now, arriving, forced):
        """Play one round of the list in simulate/README.md ("Time"); return the passes it releases."""
        finished = []
        for batch in sorted(self.running, key=lambda batch: batch["device"]):
            if batch["end_ns"] == now and not batch.get("fresh"):
                self.running.remove(batch)
                finished += self.complete(batch, now)
        finished += [p for p in arriving if self.enter(p, 0, True, now)]
        joining = [key for key in self.queues if not self.is_listed(key) and (key in forced or self.is_ready(key, now))]
        self.ready += [(*key, now, key in forced) for key in sorted(joining)]
        for device in range(self.config.devices):
            if all(batch["device"] != device for batch in self.running):
                self.take(device, now)
        return self.arrivals.after(finished)

    def stalled_queues(self):
        """Return, for every device, the queue whose head has waited longest."""
        waiting = sorted((queue[0][1], key) for key, queue in self.queues.items() if queue)
        first = {}
        for _, key in waiting:
            first.setdefault(self.device_LB[key], key)
        return set(first.values())

    def due(self, now):
        """Return the moments at which something happens by itself, from `now` on."""
        moments = [batch["end_ns"] for batch in self.running]
        if self.arrivals.next_ns is not None:
            moments.append(self.arrivals.next_ns)
        if self.config.timeout_ns is not None:
            heads = [queue[0][1] for key, queue in self.queues.items() if queue and not self.is_listed(key)]
            moments += [head + self.config.timeout_ns for head in heads]
        return moments

    def run(self):
        """Run to the end; return the log of batches."""
        now, arriving, forced = 0, self.arrivals.due(0), set()
        while True:
            released = self.round(now, arriving, forced)
            forced = set()
            moments = self.due(now)
            if released or now in moments:
                arriving = released
            elif moments:
                now = min(moments)
                arriving = self.arrivals.due(now)
            elif any(self.queues.values()):
                arriving, forced = [], self.stalled_queues()
            else:
                return self.log
