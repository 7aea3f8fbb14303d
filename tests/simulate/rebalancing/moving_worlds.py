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
        """Send copies (layer, expert, source, destination) in front of everything, or behind it on their ports."""
        self.moved, self.end, self.last = {}, 0, {}
        for layer, expert, source, destination in copies:
            self.post(expert, layer, "move", source, destination, source, 1)
        if behind:
            self.last = {port: list(posted) for port, posted in self.queue_out.items()}
            self.queue_out.clear()
        return self

    def take(self):
        """Free ports out that nothing else waits for take what is last."""
        for port, posted in self.last.items():
            if posted and self.open_out[port] and not self.queue_out[port]:
                self.queue_out[port].append(posted.pop(0))
        super().take()

    def delivered(self, posted):
        """A message is there; one of a step goes its own way."""
        message, *_, port, _ = posted
        if message[2] != "move":
            super().delivered(posted)
            return
        self.open_in[port] = True
        self.moved[message[1], message[0], message[4]] = self.now

    def send_out(self, m, h, layer):
        """Behind the dense block; behind the last one a part of the step is over."""
        super().send_out(m, h, layer)
        self.end = self.now if layer == self.L else self.end
