"""A classifier cut into blocks: every image is a token, and a pass of its own."""

import numpy as np
import torch

from moe_replay.collect.execution.blocks import Blocks
from moe_replay.collect.execution.executor import TraceOnWeights
from moe_replay.collect.gates.gate_result import recorded_selector
from moe_replay.collect.models.classifier import Classifier
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload, build_workload
from moe_replay.traces.errors import InputError
from moe_replay.traces.selections import Trace


class ClassifierBlocks(Blocks):
    """Blocks of a trained classifier. `images_TF`: uint8 [T, F] on the device, the input of each token of the run.

    Raises InputError for the one-layer configuration, which has no blocks.
    """

    def __init__(
        self, model: Classifier, images_TF: torch.Tensor, experts_TLK: np.ndarray, renormalised: bool = True
    ) -> None:
        if model.config.width is None:
            raise InputError("execute: needs a residual model (base, wide); the one-layer configuration has no blocks")
        super().__init__(model, model.classes, experts_TLK, renormalised, images_TF.device)
        self.images_TF = images_TF

    def dense(self, layer: int, tokens: list[int], rows_N: torch.Tensor) -> torch.Tensor:
        """Embed (before the first layer) and norm."""
        if layer == 0:
            x_NM = self.model.embed(self.images_TF[rows_N])
            self.residual_TM[rows_N] = x_NM
        else:
            x_NM = self.residual_TM[rows_N]
        return self.model.norms[layer](x_NM)

    def finish(self, tokens: list[int], rows_N: torch.Tensor) -> torch.Tensor:
        """Return the class logits."""
        return self.model.finish(self.residual_TM[rows_N])


class ClassifierOnWeights(TraceOnWeights):
    """A trace of images with the classifier it was recorded from.

    `images_SF`: uint8 on the device, `label_S` their classes; sequence s is row s. Raises InputError where the trace
    has a sequence without an image.
    """

    def __init__(self, model: Classifier, trace: Trace, images_SF: torch.Tensor, label_S: np.ndarray) -> None:
        if int(trace.sequences_S[-1]) >= len(images_SF):
            raise InputError(
                f"the trace has sequence {trace.sequences_S[-1]}, allowed 0..{len(images_SF) - 1} (images)"
            )
        super().__init__(model, trace)
        self.images_TF = images_SF[torch.from_numpy(trace.sequence_T.astype(np.int64)).to(images_SF.device)]
        self.label_T = torch.from_numpy(label_S[trace.sequence_T].astype(np.int64)).to(images_SF.device)

    def new_blocks(self, workload: Workload, config: RunConfig) -> ClassifierBlocks:
        """Return the blocks of one run."""
        images_TF = self.images_TF[self.rows(workload)]
        return ClassifierBlocks(self.model, images_TF, workload.experts_TLK[workload.row_N], self.renormalised)

    def expected(self, workload: Workload, experts_TLK: np.ndarray) -> torch.Tensor:
        """Return the class logits of the plain forward pass of a run's tokens under given selections."""
        return plain_forward(self.model, self.images_TF[self.rows(workload)], experts_TLK, self.renormalised)

    def quality(self, workload: Workload, logits_TC: torch.Tensor) -> dict[str, float]:
        """Return the accuracy of executed logits."""
        right_T = logits_TC.argmax(1) == self.label_T[self.rows(workload)]
        return {"accuracy": float(right_T.double().mean())}

    def rows(self, workload: Workload) -> torch.Tensor:
        """Return the trace's row of every token of a run, on the device."""
        return torch.from_numpy(workload.row_N).to(self.images_TF.device)


@torch.inference_mode()
def plain_forward(
    model: Classifier, images_TF: torch.Tensor, experts_TLK: np.ndarray, renormalised: bool = True, batch: int = 500
) -> torch.Tensor:
    """Return the class logits [T, classes] of the plain forward pass under recorded selections, batch by batch."""
    experts_TLK = torch.from_numpy(experts_TLK.astype(np.int64)).to(images_TF.device)
    logits = []
    for images_NF, experts_NLK in zip(images_TF.split(batch), experts_TLK.split(batch), strict=True):
        logits.append(model(images_NF, select=recorded_selector(model.gates, experts_NLK, renormalised))[0])
    return torch.cat(logits)


class ClassifierCalibration:
    """Builds the calibration runs of a classifier: every pass is one training image, drawn anew."""

    def __init__(self, model: Classifier, images_NF: torch.Tensor) -> None:
        self.model, self.images_NF = model, images_NF

    def __call__(self, experts_TLK: np.ndarray, draws: np.random.Generator) -> tuple[Workload, ClassifierBlocks]:
        """Return the workload of these selections and its blocks."""
        tokens = len(experts_TLK)
        chosen = torch.from_numpy(draws.integers(len(self.images_NF), size=tokens))
        blocks = ClassifierBlocks(self.model, self.images_NF[chosen.to(self.images_NF.device)], experts_TLK)
        experts = self.model.config.experts
        return build_workload(experts_TLK, np.arange(tokens), np.zeros(tokens, np.int64), experts), blocks
