"""Small worlds in which placements change over linked devices, and a second model of a step beside moves."""

import numpy as np
from plain_cluster import PlainStep

from moe_replay.simulate.rebalancing.load_points import LoadPoints


def points_of(experts_SNLK, experts, ranks_SN=None):
    """Return the points of given tokens, each a sequence of its own."""
    experts_SNLK = np.asarray(experts_SNLK, np.int16)
    points, tokens, layers, _ = experts_SNLK.shape
    load_SLE = np.stack([
        [np.bincount(row[row >= 0], minlength=experts) for row in tokens_NLK.transpose(1, 0, 2)]
        for tokens_NLK in experts_SNLK
    ])  # fmt: skip
    sequence_SN = np.tile(np.arange(tokens), (points, 1))
    return LoadPoints(
        name="toy", phase="all", load_SLE=load_SLE.astype(np.int64), number_S=np.arange(points),
        layer_ids=tuple(range(layers)), expert_bytes=None, experts_SNLK=experts_SNLK, sequence_SN=sequence_SN,
        rank_SN=ranks_SN,
    )  # fmt: skip


class PlainMoves(PlainStep):
    """A step of PlainStep that begins with experts on their way: `moved` is when each of them is there."""

    def begin(self, copies, behind):
        """Send copies (layer, expert, source, destination) in front of everything, or behind it on their ports.

        In front of it, experts run where they go to, once they are there.
        """
        self.moved, self.end, self.last, self.landed, self.held_back = {}, 0, {}, [], []
        for layer, expert, source, destination in copies:
            self.post(expert, layer, "move", source, destination, source, 1)
        self.needed = set() if behind else {(layer, expert, to) for layer, expert, _, to in copies}
        if behind:
            self.last = {port: list(posted) for port, posted in self.queue_out.items()}
            self.queue_out.clear()
        return self

    def take(self):
        """Weights that came let work begin; free ports out that nothing else waits for take what is last."""
        if self.landed:
            self.needed -= set(self.landed)
            self.landed, waiting, self.held_back = [], self.held_back, []
            for d, work in waiting:
                self.begin_work(d, work)
        for port, posted in self.last.items():
            if posted and self.open_out[port] and not self.queue_out[port]:
                self.queue_out[port].append(posted.pop(0))
        super().take()

    def is_there(self, m, layer, h, d):
        """Rows of a home are at a device, whose work may have to wait for weights."""
        before = len(self.todo[d])
        super().is_there(m, layer, h, d)
        work = self.todo[d][before:]
        del self.todo[d][before:]
        self.begin_work(d, work)

    def begin_work(self, d, work):
        """Let a device's work of one layer begin, unless weights of it are missing."""
        missing = any((layer, self.P[layer][block - 1], d) in self.needed for _, layer, block, _ in work)
        if missing:
            self.held_back.append((d, work))
        else:
            self.todo[d] += work

    def delivered(self, posted):
        """A message is there; one of a step goes its own way."""
        message, *_, port, _ = posted
        if message[2] != "move":
            super().delivered(posted)
            return
        self.open_in[port] = True
        self.moved[message[1], message[0], message[4]] = self.now
        self.landed.append((message[1], message[0], message[4]))

    def send_out(self, m, h, layer):
        """Behind the dense block; behind the last one a part of the step is over."""
        super().send_out(m, h, layer)
        self.end = self.now if layer == self.L else self.end
