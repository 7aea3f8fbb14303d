"""Placements over time in plain Python, one layer, no replicas: what the module is held to and measured beside."""

import itertools


def plain_lpt(loads, devices, room, former=None):
    """Return the device of every expert: heaviest first, least loaded first; on its former device where that ties."""
    device = [0] * len(loads)
    load, held = [0] * devices, [0] * devices
    for expert in sorted(range(len(loads)), key=lambda each: (-loads[each], each)):
        free = [each for each in range(devices) if held[each] < room]
        least = min(load[each] for each in free)
        tied = [each for each in free if load[each] == least]
        device[expert] = former[expert] if former and former[expert] in tied else tied[0]
        load[device[expert]] += loads[expert]
        held[device[expert]] += 1
    return device


def heaviest(loads, device, devices):
    """Return the heaviest device's load."""
    sums = [0] * devices
    for load, at in zip(loads, device, strict=True):
        sums[at] += load
    return max(sums)


def over_mean(loads, device, devices):
    """Return the heaviest device's load over the mean."""
    return heaviest(loads, device, devices) * devices / sum(loads)


def plain_replay(points, devices, interval, threshold, staying, window=1):
    """Return (max/mean of every point, adoptions, experts moved) of one layer that starts contiguous."""
    experts = len(points[0])
    room = -(-experts // devices)
    current = [expert * devices // experts for expert in range(experts)]
    balance, adoptions, moved = [], 0, 0
    for at, loads in enumerate(points):
        if at and at % interval == 0:
            past = [sum(each) for each in zip(*points[max(0, at - window) : at], strict=True)]
            plan = plain_lpt(past, devices, room, current if staying else None)
            if heaviest(past, current, devices) > threshold * heaviest(past, plan, devices):
                moved += sum(old != new for old, new in zip(current, plan, strict=True))
                adoptions, current = adoptions + 1, plan
        balance.append(over_mean(loads, current, devices))
    return balance, adoptions, moved


def plain_cheapest(points, pool, devices, move_cost):
    """Return the least cost of all paths through a pool of placements; the first of them is in force at first."""

    def cost(path):
        places = [pool[0], *(pool[each] for each in path)]
        moves = sum(
            old != new for one, other in itertools.pairwise(places) for old, new in zip(one, other, strict=True)
        )
        return moves * move_cost + sum(map(lambda loads, place: over_mean(loads, place, devices), points, places[1:]))

    return min(cost(path) for path in itertools.product(range(len(pool)), repeat=len(points)))


def least_copies(before, after, names):
    """Return the fewest experts on devices that did not hold them, over some ways of renaming the devices of `after`.

    Both list the set of experts of each device; a name says which of `after` every device gets.
    """
    return min(sum(len(after[new] - before[old]) for old, new in enumerate(name)) for name in names)
