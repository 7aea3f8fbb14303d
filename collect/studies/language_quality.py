"""Held-out bits per byte, domain by domain, beside a byte n-gram that was trained on the same text."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from moe_replay.collect.datasets.text_corpus import Corpus
from moe_replay.collect.models.byte_ngram import NGram
from moe_replay.collect.models.language_model import LanguageModel

NGRAM_ORDER = 5


def measure_bits(
    model: LanguageModel, corpus: Corpus, segments: int, advance: Callable[[], object] = lambda: None
) -> list[dict]:
    """Return a row per domain and model: mean bits per byte over segments, its standard error, and the lead.

    A segment is half a window of held-out bytes, and the half before it is context; segments lie evenly over the text.
    The n-grams predict the very same bytes: one was trained on all domains as the language model was, one on the
    domain alone. `lead` is the n-gram's bits less the language model's, its error that of the paired differences.
    """
    everything = NGram(np.concatenate([domain.train_B for domain in corpus.domains]), NGRAM_ORDER)
    rows = []
    for domain in corpus.domains:
        text_B, window = domain.held_out_B, model.config.window
        start_S = np.linspace(0, len(text_B) - window - 1, min(segments, len(text_B) // window)).astype(int)
        wanted_SB = start_S[:, None] + np.arange(window // 2, window) + 1
        bits = {"language model": language_bits(model, text_B, start_S, advance)}
        for name, ngram in (("all domains", everything), ("own domain", NGram(domain.train_B, NGRAM_ORDER))):
            bits[f"{NGRAM_ORDER}-gram, {name}"] = -np.log2(ngram.probability(text_B))[wanted_SB].mean(1)
        rows += [row(domain.name, name, bits_S, bits["language model"], window // 2) for name, bits_S in bits.items()]
    return rows


def row(domain: str, name: str, bits_S: np.ndarray, language_S: np.ndarray, length: int) -> dict:
    """Return one row of the table; errors are standard errors over segments."""
    lead_S = bits_S - language_S
    return {
        "domain": domain, "model": name, "bits_per_byte": bits_S.mean(), "standard_error": error(bits_S),
        "lead": lead_S.mean(), "lead_error": error(lead_S), "segments": len(bits_S), "segment_bytes": length,
    }  # fmt: skip


def error(values_S: np.ndarray) -> float:
    """Return the standard error of a mean."""
    return float(values_S.std(ddof=1) / len(values_S) ** 0.5)


@torch.inference_mode()
def language_bits(
    model: LanguageModel, text_B: np.ndarray, start_S: np.ndarray, advance: Callable[[], object], batch: int = 8
) -> np.ndarray:
    """Return the mean bits per byte of the second half of the window at each start, float64 [S]."""
    window, device, bits = model.config.window, model.embedding.device, []
    for first in range(0, len(start_S), batch):
        windows = np.stack([text_B[start : start + window + 1] for start in start_S[first : first + batch]])
        windows_BW = torch.from_numpy(windows.astype(np.int64)).to(device)
        logits, _ = model(windows_BW[:, :-1].flatten(), len(windows))
        nats = functional.cross_entropy(logits, windows_BW[:, 1:].flatten(), reduction="none")
        bits.append(nats.view(len(windows), -1)[:, window // 2 :].double().mean(1).cpu().numpy() / np.log(2))
        advance()
    return np.concatenate(bits)
