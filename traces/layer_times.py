"""Times of the experts of one layer outside any loop: what their table holds, and by which ways they were taken."""

KIND = "layer-times"
WALL, EVENT, LOOPED, GROUPED = OF_EXPERTS = ("wall", "event", "looped", "grouped")
DENSE_WALL, DENSE_EVENT = OF_DENSE = ("dense-wall", "dense-event")
FORMS = (*OF_EXPERTS, *OF_DENSE)
MEANINGS = {
    WALL: "one expert alone, wall clock, with a synchronise behind every call",
    EVENT: "one expert alone, between two CUDA events, behind enough work that the GPU waits for no launch",
    LOOPED: "all experts of a layer on equal batches, one after another, wall clock, one synchronise at the end",
    GROUPED: "all experts of a layer on equal batches, by two grouped matrix products, wall clock, one synchronise",
    DENSE_WALL: "norm, router and choice of the layer, without attention; as wall",
    DENSE_EVENT: "norm, router and choice of the layer, without attention; as event",
}
ALL_EXPERTS = -1  # in the column `expert`: the time is that of a whole step
