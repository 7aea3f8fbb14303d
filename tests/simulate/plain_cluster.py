"""One step over linked devices a second time, from the text of the rules alone: no line of the engines is used.

Everything is written for being read against the rules, none of it for speed: dictionaries of (micro-batch, layer, ...),
an agenda of closures, and every number worked out where it is needed.
"""

from collections import defaultdict
from fractions import Fraction


class PlainStep:
    """`x[t][layer]`: the experts of row t, `home[t]` its device, `P[layer]` the expert of every slot (-1: none).

    `net` has inside and network = (latency ns, bytes per s), nics, dispatch, combine (bytes), unit, mode, split;
    `cost(layer, block, tokens)` as in the engines; `shared` experts run at home, in blocks behind those of slots.
    `batches` are (device, micro-batch, layer, block, tokens, start, end) and `messages` (micro-batch, layer, kind,
    source, destination, tokens, bytes, queued, start, end) in order.
    """

    def __init__(self, x, home, P, D, N, M, net, cost, dense=True, shared=0):
        self.x, self.home, self.P, self.D, self.N, self.M, self.net, self.cost = x, home, P, D, N, M, net, cost
        self.shared, self.dense, self.L, self.G, self.S = shared, dense, len(P), D // N, len(P[0]) // D
        self.batches, self.messages = [], []
        self.agenda, self.now, self.count = defaultdict(list), 0, 0
        self.todo = {d: [] for d in range(D)}
        self.idle = dict.fromkeys(range(D), True)
        self.queue_out, self.queue_in = defaultdict(list), defaultdict(list)
        self.open_out, self.open_in = defaultdict(lambda: True), defaultdict(lambda: True)
        self.arrived, self.returned, self.gathered = defaultdict(set), defaultdict(set), defaultdict(set)
        self.runs = defaultdict(list)  # (micro-batch, layer, slot): rows, one entry for each selection
        self.rows = defaultdict(list)  # (micro-batch, home): rows
        self.at_home = set()
        self.share_out()

    def share_out(self):
        """Cut micro-batches and choose the slot of every selection."""
        seen = defaultdict(int)
        self.part = []
        for h in self.home:
            self.part.append(seen[h] % self.M)
            seen[h] += 1
        for t, h in enumerate(self.home):
            self.rows[self.part[t], h].append(t)
        for layer in range(self.L):
            fallen = defaultdict(int)
            for t, h in enumerate(self.home):
                for e in self.x[t][layer]:
                    replicas = [p for p in range(len(self.P[layer])) if self.P[layer][p] == e]
                    if self.net["split"] == "nearest":
                        near = [p for p in replicas if p // self.S == h]
                        near = near or [p for p in replicas if p // self.S // self.G == h // self.G]
                        replicas = near or replicas
                    among = tuple(replicas)
                    self.runs[self.part[t], layer, among[fallen[among] % len(among)]].append(t)
                    fallen[among] += 1

    def tokens(self, m, layer, h, devices):
        """Return the rows of a home that some devices run: each once, and as often as they are selected."""
        slots = [p for p in range(len(self.P[layer])) if p // self.S in devices]
        every = [t for p in slots for t in self.runs.get((m, layer, p), []) if self.home[t] == h]
        return set(every), every

    def copies(self, m, layer, h, d):
        """Return how many copies a home and a device exchange."""
        once, every = self.tokens(m, layer, h, [d])
        return len(every) if self.net["unit"] == "selection" else len(once)

    def node_copies(self, m, layer, h, n):
        """Return how many copies a home and another node exchange."""
        return len(self.tokens(m, layer, h, range(n * self.G, (n + 1) * self.G))[0])

    def run(self):
        """Play it; return when it ends."""
        for m in range(self.M):
            for h in range(self.D):
                if self.rows[m, h]:
                    self.enter(m, h, 0)
        self.take()
        while self.agenda:
            self.now = min(self.agenda)
            for _, what in sorted(self.agenda.pop(self.now), key=lambda each: each[0]):
                what()
            self.take()
        assert self.at_home == {key for key, rows in self.rows.items() if rows}
        return self.now

    def later(self, ns, order, what):
        """Put something into the agenda; what is due at one time is done in the order of `order`."""
        self.count += 1
        self.agenda[self.now + ns].append(((*order, self.count), what))

    def enter(self, m, h, layer):
        """A home's rows enter a layer."""
        if self.dense:
            self.todo[h].append((m, layer, 0, len(self.rows[m, h])))
        else:
            self.send_out(m, h, layer)

    def send_out(self, m, h, layer):
        """Behind the dense block."""
        if layer == self.L:
            self.at_home.add((m, h))
            return
        own, relays = h // self.G, self.net["mode"] == "hierarchical"
        if relays:
            for n in [(own + i) % self.N for i in range(1, self.N)]:
                if count := self.node_copies(m, layer, h, n):
                    self.post(m, layer, "dispatch", h, n * self.G + h % self.G, h, count)
        for d in [(h + i) % self.D for i in range(1, self.D)]:
            if (count := self.copies(m, layer, h, d)) and (not relays or d // self.G == own):
                self.post(m, layer, "dispatch", h, d, h, count)
        behind = 1 + len(self.P[layer])
        self.todo[h] += [(m, layer, behind + each, len(self.rows[m, h])) for each in range(self.shared)]
        if self.copies(m, layer, h, h):
            self.is_there(m, layer, h, h)
        if not self.shared and not any(self.copies(m, layer, h, d) for d in range(self.D)):
            self.enter(m, h, layer + 1)

    def is_there(self, m, layer, h, d):
        """Rows of a home are at a device."""
        self.arrived[m, layer, d].add(h)
        if self.arrived[m, layer, d] == {g for g in range(self.D) if self.copies(m, layer, g, d)}:
            slots = [p for p in range(d * self.S, (d + 1) * self.S) if self.runs.get((m, layer, p))]
            self.todo[d] += [(m, layer, 1 + p, len(self.runs[m, layer, p])) for p in slots]

    def done(self, d, m, layer, block):
        """A batch is complete."""
        self.idle[d] = True
        if block == 0:
            self.send_out(m, d, layer)
            return
        if block > len(self.P[layer]):
            if block == len(self.P[layer]) + self.shared:
                self.is_back(m, layer, d, "shared")
            return
        last = max(p for p in range(d * self.S, (d + 1) * self.S) if self.runs.get((m, layer, p)))
        if block - 1 < last:
            return
        node = d // self.G
        for h in [(d + i) % self.D for i in range(1, self.D)]:
            if count := self.copies(m, layer, h, d):
                if self.net["mode"] == "direct" or h // self.G == node:
                    self.post(m, layer, "combine", d, h, h, count)
                elif h % self.G == d % self.G:
                    self.gather(m, layer, h, node, d)
                else:
                    self.post(m, layer, "combine", d, node * self.G + h % self.G, h, count)
        if self.copies(m, layer, d, d):
            self.is_back(m, layer, d, ("device", d))

    def gather(self, m, layer, h, node, d):
        """A relay has a device's results of a home."""
        self.gathered[m, layer, h, node].add(d)
        devices = range(node * self.G, (node + 1) * self.G)
        if self.gathered[m, layer, h, node] == {g for g in devices if self.copies(m, layer, h, g)}:
            relay = node * self.G + h % self.G
            self.post(m, layer, "combine", relay, h, h, self.node_copies(m, layer, h, node))

    def is_back(self, m, layer, h, whence):
        """Results of a home are back from a device, or from a node through its relay."""
        self.returned[m, layer, h].add(whence)
        expected = {"shared"} if self.shared else set()
        for d in range(self.D):
            if self.copies(m, layer, h, d):
                far = self.net["mode"] == "hierarchical" and d // self.G != h // self.G
                expected.add(("node", d // self.G) if far else ("device", d))
        if self.returned[m, layer, h] == expected:
            self.enter(m, h, layer + 1)

    def post(self, m, layer, kind, source, destination, h, count):
        """Make a message."""
        size = count * self.net[kind]
        message = [m, layer, kind, source, destination, count, size, self.now, None, None]
        self.messages.append(message)
        inside = source // self.G == destination // self.G
        latency, rate = self.net["inside" if inside else "network"]
        wire = 0 if rate == float("inf") else round(Fraction(size * 10**9) / Fraction(rate))
        port = [d if inside else self.D + d // self.G * self.net["nics"] + d % self.G * self.net["nics"] // self.G
                for d in (source, destination)]  # fmt: skip
        self.queue_out[port[0]].append((message, latency, wire, *port, h))

    def take(self):
        """Free devices take, then free ports in, then free ports out."""
        for d in range(self.D):
            if self.idle[d] and self.todo[d]:
                m, layer, block, n = self.todo[d].pop(0)
                self.idle[d] = False
                ns = self.cost(layer, block, n)
                self.batches.append((d, m, layer, block, n, self.now, self.now + ns))
                self.later(ns, (1, d), lambda d=d, m=m, layer=layer, block=block: self.done(d, m, layer, block))
        for port in sorted(self.queue_in):
            if self.queue_in[port] and self.open_in[port]:
                posted = self.queue_in[port].pop(0)
                self.open_in[port] = False
                self.later(posted[2], (2, port), lambda posted=posted: self.delivered(posted))
        for port in sorted(self.queue_out):
            if self.queue_out[port] and self.open_out[port]:
                posted = self.queue_out[port].pop(0)
                self.open_out[port] = False
                posted[0][8] = self.now
                self.later(posted[1], (3, port), lambda posted=posted: self.queue_in[posted[4]].append(posted))
                self.later(posted[2], (4, port), lambda port=port: self.open_out.update({port: True}))

    def delivered(self, posted):
        """A message is there."""
        message, *_, port, h = posted
        m, layer, kind, source, destination = message[:5]
        self.open_in[port] = True
        message[9] = self.now
        node = destination // self.G
        is_relay = self.net["mode"] == "hierarchical" and node != h // self.G
        if kind == "combine":
            if is_relay:
                self.gather(m, layer, h, node, source)
            else:
                far = self.net["mode"] == "hierarchical" and source // self.G != node
                self.is_back(m, layer, h, ("node", source // self.G) if far else ("device", source))
            return
        if is_relay and source == h:
            for q in [(destination % self.G + i) % self.G for i in range(1, self.G)]:
                if count := self.copies(m, layer, h, node * self.G + q):
                    self.post(m, layer, "dispatch", destination, node * self.G + q, h, count)
        if self.copies(m, layer, h, destination):
            self.is_there(m, layer, h, destination)
