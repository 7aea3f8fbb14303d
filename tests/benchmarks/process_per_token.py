"""The model that a first attempt with SimPy looks like: a process for every token. Engines are measured beside it."""

from collections import deque

import simpy

from simulate.policies.arrivals import poisson_times_ns


class ProcessPerToken:
    """Every token is a process that waits in queues; a device process runs full queues. Poisson arrivals, one device.

    `sizes` are those of its batches, in the order in which they started.
    """

    def __init__(self, workload, config, cost):
        self.size, self.cost, self.sizes = config.queue_size, cost, []
        self.environment = simpy.Environment()
        self.queues = [[deque() for _ in range(workload.experts)] for _ in range(workload.layers)]
        self.ready = simpy.Store(self.environment)
        choices_TLK = workload.experts_TLK.tolist()
        times_ns = poisson_times_ns(len(choices_TLK), config.rate_per_s, config.generator("arrivals")).tolist()
        for arrival_ns, choices in zip(times_ns, choices_TLK, strict=True):
            self.environment.process(self.token(arrival_ns, choices))
        self.environment.process(self.device())

    def token(self, arrival_ns, choices):
        yield self.environment.timeout(arrival_ns)
        for queues, experts in zip(self.queues, choices, strict=True):
            served = []
            for expert in experts:
                served.append(self.environment.event())
                queues[expert].append(served[-1])
                if len(queues[expert]) == self.size:
                    self.ready.put(queues[expert])
            yield self.environment.all_of(served)

    def device(self):
        while True:
            queue = yield self.ready.get()
            members = [queue.popleft() for _ in range(min(self.size, len(queue)))]
            if len(queue) >= self.size:
                self.ready.put(queue)
            self.sizes.append(len(members))
            yield self.environment.timeout(self.cost(0, 1, len(members)))
            for served in members:
                served.succeed()

    def run(self):
        """Run; whenever nothing moves any more, start the first queue with members."""
        self.environment.run()
        while waiting := [queue for queues in self.queues for queue in queues if queue]:
            self.ready.put(waiting[0])
            self.environment.run()


def run_processes(workload, config, cost):
    """Return the sizes of the batches of one run of the model, built and run anew."""
    model = ProcessPerToken(workload, config, cost)
    model.run()
    return model.sizes
