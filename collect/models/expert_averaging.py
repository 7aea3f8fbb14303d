"""Random routing's deployed form: the experts' weights averaged into one dense model (AdaMix, arXiv 2205.12410)."""

from dataclasses import replace

import torch

from moe_replay.collect.models.vision_transformer import AVERAGED, VisionTransformer
from moe_replay.traces.errors import InputError

STACKS = ("w1_EMH", "b1_EH", "w2_EHO", "b2_EO")


@torch.no_grad()
def averaged(model: VisionTransformer) -> VisionTransformer:
    """Return the dense model whose one perceptron per layer is the mean of the experts' weights (not of their outputs).

    It has the class, layout and cost of any dense model. InputError for a model that was not routed at random.
    """
    if model.config.variant not in AVERAGED:
        raise InputError(f"variant {model.config.variant}: allowed for averaging: {', '.join(AVERAGED)}")
    config = replace(model.config, variant="dense", experts=1)
    dense = VisionTransformer(config, model.shape, model.mean_F, model.deviation_F, model.classes, 0)
    state = {
        name: tensor.mean(0, keepdim=True) if name.rpartition(".")[2] in STACKS else tensor
        for name, tensor in model.state_dict().items()
    }
    dense.load_state_dict(state)
    return dense.to(model.mean_F.device).train(model.training)


def deployed(model: VisionTransformer) -> VisionTransformer:
    """Return what answers requests: the averaged model of random routing, any other model itself."""
    return averaged(model) if model.config.variant in AVERAGED else model
