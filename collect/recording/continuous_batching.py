"""Serving the language model: sequences of different lengths decode together; where one ends, another joins."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from moe_replay.collect.datasets.text_corpus import SEPARATOR, Corpus
from moe_replay.collect.gates.gate_result import Selector
from moe_replay.collect.models.language_model import Cache, LanguageModel, Rows
from moe_replay.traces.errors import InputError


@dataclass(frozen=True)
class Request:
    """A prompt of a domain's held-out text, and how many bytes to generate at most; a separator ends it earlier."""

    sequence: int
    domain: str
    prompt: bytes
    new_bytes: int


@dataclass
class Running:
    """A request in a slot: what it has computed and generated so far."""

    request: Request
    slot: int
    draws: torch.Generator
    computed: int = 0
    generated: list[int] = field(default_factory=list)

    @property
    def waiting(self) -> bytes:
        """The bytes to compute next: the prompt, later the byte generated last."""
        return bytes(self.generated[-1:]) if self.computed else self.request.prompt

    @property
    def done(self) -> bool:
        """Whether nothing more is generated."""
        return len(self.generated) == self.request.new_bytes or self.generated[-1:] == [SEPARATOR]


@dataclass(frozen=True)
class Step:
    """One forward call: its bytes, and per sequence (request, first position, rows, 0 prefill or 1 decode)."""

    bytes_N: np.ndarray
    members: tuple[tuple[Request, int, int, int], ...]


def draw_requests(
    corpus: Corpus, count: int, prompt: tuple[int, int], new: tuple[int, int], window: int, draws: np.random.Generator
) -> list[Request]:
    """Return requests whose domains take turns, prompts at places drawn evenly in the held-out text.

    Both lengths are drawn log-uniform within (low, high), both included: many short requests, few long ones.
    InputError where the longest request would not fit in the model's window.
    """
    if prompt[1] + new[1] > window:
        raise InputError(f"prompt {prompt[1]} and new bytes {new[1]}: allowed together up to the window, {window}")
    requests = []
    for sequence in range(count):
        domain = corpus.domains[sequence % len(corpus.domains)]
        length, generated = (int(np.exp(draws.uniform(np.log(low), np.log(high + 1)))) for low, high in (prompt, new))
        start = int(draws.integers(len(domain.held_out_B) - length))
        requests.append(Request(sequence, domain.name, domain.held_out_B[start : start + length].tobytes(), generated))
    return requests


@torch.inference_mode()
def serve(
    model: LanguageModel, requests: list[Request], slots: int, seed: int, select: Selector, temperature: float = 1.0
) -> Iterator[Step]:
    """Serve requests in order, `slots` at once, and yield every step right after `select` has seen its layers.

    A step computes the prompt of every sequence that joins and one byte of every other; sequences are in the order
    they joined. A sequence draws its bytes from (seed, sequence) alone, so its text does not depend on the others.
    The byte generated last is never computed: it has no row.
    """
    device = model.embedding.device
    cache, waiting, running = Cache(model.config, slots, device), list(reversed(requests)), []
    while waiting or running:
        free = sorted(set(range(slots)) - {each.slot for each in running})
        for slot in free[: len(waiting)]:
            request = waiting.pop()
            draws = torch.Generator().manual_seed(
                int(np.random.SeedSequence([seed, request.sequence]).generate_state(1)[0])
            )
            running.append(Running(request, slot, draws))
        parts = [each.waiting for each in running]
        spans = [(each.slot, each.computed, len(part)) for each, part in zip(running, parts, strict=True)]
        bytes_N = np.frombuffer(b"".join(parts), np.uint8)
        rows = torch.from_numpy(bytes_N.astype(np.int64)).to(device)
        logits, _ = model(rows, rows=Rows(cache, spans), select=select)
        members = (
            (each.request, first, count, int(each.computed > 0))
            for each, (_, first, count) in zip(running, spans, strict=True)
        )
        yield Step(bytes_N, tuple(members))
        last = np.cumsum([len(part) for part in parts]) - 1
        advance(running, parts, logits[torch.from_numpy(last).to(device)].cpu() / temperature)
        running = [each for each in running if not each.done]


def advance(running: list[Running], parts: list[bytes], logits: torch.Tensor) -> None:
    """Draw the next byte of every running sequence from its last row's logits."""
    for each, part, row in zip(running, parts, logits.softmax(1), strict=True):
        each.computed += len(part)
        each.generated.append(int(torch.multinomial(row, 1, generator=each.draws)))
