"""The models that a first attempt with SimPy looks like: a process for every token. Engines are measured beside them.

Both play Poisson arrivals on one device and, when nothing moves any more, start the first queue that has members.
`ProcessPerToken` is written as SimPy's documentation teaches: queues are stores, the device is a resource, every expert
is a process that takes B members out of its store. `LeanProcessPerToken` keeps members in plain lists and has one
process for the device, which spares SimPy two of three events per selection.
"""

from collections import deque

import simpy

from moe_replay.simulate.policies.arrivals import poisson_times_ns


def start_tokens(environment, workload, config, token):
    """Start a process for every token at its arrival."""
    choices_TLK = workload.experts_TLK.tolist()
    times_ns = poisson_times_ns(len(choices_TLK), config.rate_per_s, config.generator("arrivals")).tolist()
    for arrival_ns, choices in zip(times_ns, choices_TLK, strict=True):
        environment.process(token(arrival_ns, choices))


class ProcessPerToken:
    """Tokens put themselves into the stores of their experts and wait for all; `sizes` are those of the batches."""

    def __init__(self, workload, config, cost):
        self.size, self.cost, self.sizes = config.queue_size, cost, []
        self.environment = simpy.Environment()
        self.device = simpy.Resource(self.environment)
        self.queues = [[simpy.Store(self.environment) for _ in range(workload.experts)] for _ in range(workload.layers)]
        self.gathered = [[[] for _ in queues] for queues in self.queues]
        start_tokens(self.environment, workload, config, self.token)
        for queues, gathered in zip(self.queues, self.gathered, strict=True):
            for queue, members in zip(queues, gathered, strict=True):
                self.environment.process(self.expert(queue, members))

    def token(self, arrival_ns, choices):
        yield self.environment.timeout(arrival_ns)
        for queues, experts in zip(self.queues, choices, strict=True):
            served = [self.environment.event() for _ in experts]
            for expert, event in zip(experts, served, strict=True):
                queues[expert].put(event)
            yield self.environment.all_of(served)

    def expert(self, queue, members):
        while True:
            while len(members) < self.size:
                member = yield queue.get()
                if member is None:
                    break
                members.append(member)
            with self.device.request() as turn:
                yield turn
                self.sizes.append(len(members))
                yield self.environment.timeout(self.cost(0, 1, len(members)))
            for event in members:
                event.succeed()
            members.clear()

    def run(self):
        """Run; whenever nothing moves any more, let the first expert that gathered members start with them."""
        self.environment.run()
        while (queue := self.first_waiting()) is not None:
            queue.put(None)
            self.environment.run()

    def first_waiting(self):
        for queues, gathered in zip(self.queues, self.gathered, strict=True):
            for queue, members in zip(queues, gathered, strict=True):
                if members:
                    return queue
        return None


class LeanProcessPerToken:
    """The same with members in plain lists and one process for the device."""

    def __init__(self, workload, config, cost):
        self.size, self.cost, self.sizes = config.queue_size, cost, []
        self.environment = simpy.Environment()
        self.queues = [[deque() for _ in range(workload.experts)] for _ in range(workload.layers)]
        self.ready = simpy.Store(self.environment)
        start_tokens(self.environment, workload, config, self.token)
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
        while waiting := next((queue for queues in self.queues for queue in queues if queue), None):
            self.ready.put(waiting)
            self.environment.run()


def run_processes(model, workload, config, cost):
    """Return the sizes of the batches of one run of a model, built and run anew."""
    made = model(workload, config, cost)
    made.run()
    return made.sizes
