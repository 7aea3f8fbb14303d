"""Queues over linked devices a second time, from the text of the rules alone: no line of the engines is used.

Everything is written for being read against the rules, none of it for speed: lists, an agenda of closures, every queue
looked through in every round.
"""

from collections import defaultdict
from fractions import Fraction


class PlainQueues:
    """All passes arrive at time 0. `x[t][layer]`: the experts of row t, `home[t]` its device, `owner[t]` its pass.

    `P[layer]` is the expert of every slot (-1: none), `net` and `cost` as in `plain_cluster.PlainStep`; B is `size` of
    slots and of the `shared` experts of a home, and `dense_size` of dense blocks, `timeout` None or ns. `batches` are
    (device, layer, block, tokens, members, ready, start, end, forced) and `messages` (layer, kind, source, destination,
    tokens, bytes, queued, start, end) in order.
    """

    def __init__(self, x, home, owner, P, D, N, net, cost, size, dense_size, timeout, dense, shared):
        self.x, self.home, self.owner, self.P, self.D, self.N, self.net, self.cost = x, home, owner, P, D, N, net, cost
        self.size, self.dense_size, self.timeout, self.dense, self.shared = size, dense_size, timeout, dense, shared
        self.L, self.G, self.S = len(P), D // N, len(P[0]) // D
        self.batches, self.messages = [], []
        self.agenda, self.now, self.count = defaultdict(list), 0, 0
        self.queues = defaultdict(list)  # (layer, device, block): [(since when, member)]
        self.ready = {d: [] for d in range(D)}  # [(queue, when it joined)]
        self.became_ready, self.forced = set(), set()
        self.idle = dict.fromkeys(range(D), True)
        self.queue_out, self.queue_in = defaultdict(list), defaultdict(list)
        self.open_out, self.open_in = defaultdict(lambda: True), defaultdict(lambda: True)
        self.on_their_way = 0
        self.fallen = defaultdict(int)
        self.missing = {}  # (pass, home): results that are not back
        self.rows = defaultdict(list)
        for t, p in enumerate(owner):
            self.rows[p, home[t]].append(t)
        self.at_home, self.ends = set(), {}

    def run(self):
        """Play it; return {pass: when it ends}."""
        for p, h in sorted(self.rows):
            self.enter(p, h, 0)
        self.take()
        while True:
            due = [*self.agenda, *self.time_outs()]
            if due:
                self.now = min(due)
                for _, what in sorted(self.agenda.pop(self.now, []), key=lambda each: each[0]):
                    what()
            elif any(self.queues.values()):
                self.stall()
            else:
                break
            self.take()
        assert self.at_home == set(self.rows)
        return self.ends

    def limit(self, queue):
        """B of a queue."""
        return self.size if queue[2] else self.dense_size

    def is_listed(self, queue):
        """Whether a queue is ready, in a list or about to join one."""
        return queue in self.became_ready or any(queue == each for each, _ in self.ready[queue[1]])

    def time_outs(self):
        """When the heads of queues that are not ready have waited the time-out."""
        if self.timeout is None:
            return []
        heads = {queue: members[0][0] for queue, members in self.queues.items() if members}
        return [since + self.timeout for queue, since in heads.items() if not self.is_listed(queue)]

    def stall(self):
        """On every device the queue whose head has waited longest becomes ready; of equals the lowest."""
        for d in range(self.D):
            heads = [(members[0][0], queue) for queue, members in self.queues.items() if members and queue[1] == d]
            if heads:
                self.became_ready.add(min(heads)[1])
                self.forced.add(min(heads)[1])

    def later(self, ns, order, what):
        """Put something into the agenda; what is due at one time is done in the order of `order`."""
        self.count += 1
        self.agenda[self.now + ns].append(((*order, self.count), what))

    def put(self, queue, member):
        """A member joins a queue, and waits from now."""
        self.queues[queue].append((self.now, member))
        if len(self.queues[queue]) == self.limit(queue) and not self.is_listed(queue):
            self.became_ready.add(queue)

    def enter(self, p, h, layer):
        """What a pass has at home on a device enters a layer."""
        if self.dense:
            self.put((layer, h, 0), p)
        else:
            self.send_out(p, h, layer)

    def send_out(self, p, h, layer):
        """Behind the dense block."""
        if layer == self.L:
            self.at_home.add((p, h))
            if all((p, other) in self.at_home for q, other in self.rows if q == p):
                self.ends[p] = self.now
            return
        goes = defaultdict(list)
        for t in self.rows[p, h]:
            for e in self.x[t][layer]:
                slot = self.slot_of(layer, e, h)
                goes[slot // self.S].append((t, slot))
            goes[h] += [(t, len(self.P[layer]) + each) for each in range(self.shared)]
        self.missing[p, h] = sum(len(each) for each in goes.values())
        for d in [(h + i) % self.D for i in range(1, self.D)]:
            if goes[d]:
                count = len(goes[d]) if self.net["unit"] == "selection" else len({t for t, _ in goes[d]})
                self.post(layer, "dispatch", h, d, count, goes[d])
        for t, slot in goes[h]:
            self.put((layer, h, 1 + slot), t)
        if not self.missing[p, h]:
            self.enter(p, h, layer + 1)

    def slot_of(self, layer, e, h):
        """The slot of the next selection of an expert."""
        replicas = [s for s in range(len(self.P[layer])) if self.P[layer][s] == e]
        if self.net["split"] == "nearest":
            near = [s for s in replicas if s // self.S == h]
            near = near or [s for s in replicas if s // self.S // self.G == h // self.G]
            replicas = near or replicas
        among = (layer, *replicas)
        self.fallen[among] += 1
        return replicas[(self.fallen[among] - 1) % len(replicas)]

    def done(self, queue, members):
        """A batch is complete."""
        layer, d, block = queue
        self.idle[d] = True
        if block == 0:
            for p in members:
                self.send_out(p, d, layer)
            return
        for h in [(d + i) % self.D for i in range(1, self.D)]:
            results = [t for t in members if self.home[t] == h]
            if results:
                self.post(layer, "combine", d, h, len(results), results)
        self.are_back(layer, [t for t in members if self.home[t] == d])

    def are_back(self, layer, results):
        """Results are at home."""
        for t in results:
            part = self.owner[t], self.home[t]
            self.missing[part] -= 1
            if not self.missing[part]:
                self.enter(*part, layer + 1)

    def post(self, layer, kind, source, destination, count, load):
        """Make a message."""
        size = count * self.net[kind]
        message = [layer, kind, source, destination, count, size, self.now, None, None]
        self.messages.append(message)
        inside = source // self.G == destination // self.G
        latency, rate = self.net["inside" if inside else "network"]
        wire = 0 if rate == float("inf") else round(Fraction(size * 10**9) / Fraction(rate))
        port = [d if inside else self.D + d // self.G * self.net["nics"] + d % self.G * self.net["nics"] // self.G
                for d in (source, destination)]  # fmt: skip
        self.queue_out[port[0]].append((message, latency, wire, port[1], load))

    def take(self):
        """Ready queues join, free devices take, then free ports in, then free ports out."""
        if self.timeout is not None:
            for queue, members in self.queues.items():
                if members and members[0][0] + self.timeout <= self.now and not self.is_listed(queue):
                    self.became_ready.add(queue)
        for queue in sorted(self.became_ready):
            self.ready[queue[1]].append((queue, self.now))
        self.became_ready.clear()
        for d in range(self.D):
            if self.idle[d] and self.ready[d]:
                self.start(d, *self.ready[d].pop(0))
        for port in sorted(self.queue_in):
            if self.queue_in[port] and self.open_in[port]:
                posted = self.queue_in[port].pop(0)
                self.open_in[port] = False
                self.later(posted[2], (2, port), lambda posted=posted: self.delivered(posted))
        for port in sorted(self.queue_out):
            if self.queue_out[port] and self.open_out[port]:
                posted = self.queue_out[port].pop(0)
                self.open_out[port] = False
                posted[0][7] = self.now
                self.later(posted[1], (3, port), lambda posted=posted: self.queue_in[posted[3]].append(posted))
                self.later(posted[2], (4, port), lambda port=port: self.open_out.update({port: True}))

    def start(self, d, queue, joined):
        """A device takes a queue and binds members."""
        bound = [member for _, member in self.queues[queue][: self.limit(queue)]]
        self.queues[queue] = self.queues[queue][self.limit(queue) :]
        self.idle[d] = False
        layer, _, block = queue
        tokens = len(bound) if block else sum(len(self.rows[p, d]) for p in bound)
        ns = self.cost(layer, block, tokens)
        self.batches.append((d, layer, block, tokens, bound, joined, self.now, self.now + ns, queue in self.forced))
        self.forced.discard(queue)
        rest = self.queues[queue]
        timed_out = rest and self.timeout is not None and rest[0][0] + self.timeout <= self.now
        if len(rest) >= self.limit(queue) or timed_out:
            self.ready[d].append((queue, self.now))
        self.later(ns, (1, d), lambda: self.done(queue, bound))

    def delivered(self, posted):
        """A message is there."""
        message, _, _, port, load = posted
        layer, kind, _, destination = message[:4]
        self.open_in[port] = True
        message[8] = self.now
        if kind == "combine":
            self.are_back(layer, load)
        else:
            for t, slot in load:
                self.put((layer, destination, 1 + slot), t)
