"""The rules that simulation and real execution share: arrivals, queues, lockstep, placements. No clock, no cost.

Shape letters, beside those of `traces`:

    P  passes of a workload    G  sequence instances ("groups")    Q  queues, ascending (layer, block)
    N  tokens of a workload    S  stages a pass goes through: 2l is the dense block of layer l, 2l+1 its experts

Layer index L (one past the last MoE layer) has a dense block only: what follows the last layer.
`collect` may import this folder and `simulate.config`, and nothing else of `simulate`."""
