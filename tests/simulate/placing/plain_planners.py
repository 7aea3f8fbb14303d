"""Longest first and EPLB once more, as plain loops: what the planners are held to, and timed beside."""

import numpy as np


def packed(loads, packs):
    """Return (pack, place in it) of every item: heaviest first, to the least loaded pack with room."""
    if len(loads) == packs:
        return [(at, 0) for at in range(packs)]
    weight, held, found = [np.float32(0)] * packs, [0] * packs, [None] * len(loads)
    for item in sorted(range(len(loads)), key=lambda at: (-loads[at], at)):
        pack = min((each for each in range(packs) if held[each] < len(loads) // packs), key=lambda each: weight[each])
        found[item] = pack, held[pack]
        weight[pack] = weight[pack] + loads[item]
        held[pack] += 1
    return found


def lpt(loads, devices):
    """Return the expert of every slot of a layer, ascending on each device."""
    found = packed([np.float64(each) for each in loads], devices)
    return [expert for device in range(devices) for expert, (pack, _) in enumerate(found) if pack == device]


def eplb(loads, slots, groups, nodes, devices):
    """Return the expert of every slot of a layer."""
    loads = [np.float32(each) for each in loads]
    if groups % nodes:
        groups = nodes = 1
    size = len(loads) // groups
    groups_of = packed([sum(loads[at * size : (at + 1) * size], np.float32(0)) for at in range(groups)], nodes)
    found = []
    for node in range(nodes):
        own = [group for place in range(groups // nodes) for group, at in enumerate(groups_of) if at == (node, place)]
        experts = [group * size + at for group in own for at in range(size)]
        replicas, count = list(experts), dict.fromkeys(experts, 1)
        while len(replicas) < slots // nodes:
            most = max(experts, key=lambda each: (loads[each] / np.float32(count[each]), -experts.index(each)))
            replicas.append(most)
            count[most] += 1
        places = packed([loads[each] / np.float32(count[each]) for each in replicas], devices // nodes)
        inside = [None] * len(replicas)
        for each, (device, place) in zip(replicas, places, strict=True):
            inside[device * (slots // devices) + place] = each
        found += inside
    return found
