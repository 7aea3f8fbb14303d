"""Loading a transformers model and its tokenizer, from a folder or the hub; no code of a repository is run."""

from pathlib import Path

import torch
from torch import nn

from traces.errors import InputError

TYPES = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(name: str, dtype: str, device: torch.device) -> nn.Module:
    """Return the model in evaluation mode; InputError in one line for whatever transformers cannot load.

    Weights that the checkpoint lacks are an error too: transformers would draw them at random, and a trace of a random
    router looks like any other.
    """
    transformers = imported()
    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
        model, report = kind.from_pretrained(
            name, dtype=TYPES[dtype], trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # damaged weights and impossible settings have error types of their own
        raise InputError(f"--model {name}: {one_line(error)}") from None
    if missing := sorted(report["missing_keys"]):
        raise InputError(f"--model {name}: lacks the weights {missing[0]} ({len(missing)} such), allowed: all of them")
    return model.eval().to(device)


def load_tokenizer(name: str) -> object | None:
    """Return the model's tokenizer, None where there is none."""
    try:
        return imported().AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError):
        return None


def imported() -> object:
    """Return the transformers package; InputError where it is missing."""
    try:
        import transformers
    except ImportError:
        raise InputError(
            "--model needs transformers, which this Python lacks: pip install 'transformers>=5,<6'"
        ) from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def one_line(error: Exception) -> str:
    """Return what an error says in one line, shortened."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def short_name(name: str) -> str:
    """Return how a model is called in a header: its name on the hub, or its folder's own name."""
    return Path(name).resolve().name if Path(name).exists() else name
