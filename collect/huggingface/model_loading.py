"""Loading a transformers model and its tokenizer, from a folder or the hub; no code of a repository is run."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from moe_replay.collect.huggingface.prompts import NoTokenizer
from moe_replay.collect.huggingface.routers import all_routers
from moe_replay.traces.errors import InputError

LONGEST_REASON = 300  # letters of an error's own text
UNKNOWN_CLASS = "Unrecognized configuration class"  # what transformers says where a task has no class for a model

TYPES = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(name: str, dtype: str, device: torch.device) -> nn.Module:
    """Return the model in evaluation mode; InputError in one line for whatever transformers cannot load.

    Weights that the checkpoint lacks are an error too: transformers would draw them at random, and a trace of a random
    router looks like any other.
    """
    transformers = imported()
    with told_in_one_line(f"--model {name}"):
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        model, report = loaded(transformers, config, name, TYPES[dtype])
        model = model.eval().to(device)
    if missing := sorted(report["missing_keys"]):
        raise InputError(f"--model {name}: lacks the weights {missing[0]} ({len(missing)} such), allowed: all of them")
    return model


def set_otherwise(model: nn.Module, name: str) -> list[str]:
    """Return the names of routers' tensors that have other values after loading than in the checkpoint.

    transformers 5.24 sets the bias of ZAYA's expert that skips to -1, whatever was trained. Only safetensors files are
    looked into, for tensors that are called there as they are in the model.
    """
    from safetensors import safe_open

    own = {
        f"{router.name}.{tensor}": values
        for router in all_routers(model)
        for tensor, values in (*router.module.named_parameters(), *router.module.named_buffers())
    }
    found = []
    for path in weight_files(name):
        with safe_open(path, "pt") as held:
            for each in sorted(own.keys() & set(held.keys())):
                stated, values = held.get_tensor(each), own[each].detach().cpu()
                comparable = stated.shape == values.shape and stated.dtype in TYPES.values()  # not quantised ones
                if comparable and not torch.equal(stated.to(values.dtype), values):
                    found.append(each)
    return found


def weight_files(name: str) -> list[Path]:
    """Return the safetensors files of a checkpoint, a folder's or those that the hub's cache holds."""
    folder = Path(name)
    if not folder.exists():
        import huggingface_hub

        config = huggingface_hub.try_to_load_from_cache(name, "config.json")
        if not isinstance(config, str):
            return []
        folder = Path(config).parent
    return sorted(folder.glob("*.safetensors"))


def loaded(transformers: object, config: object, name: str, dtype: object) -> tuple[nn.Module, dict]:
    """Return (model, report) of the first task that has a class for it: text alone, or text with images.

    A model that reads images beside text takes prompts of text alone as well. Raises InputError where there is none.
    """
    tasks = ["Seq2SeqLM"] if config.is_encoder_decoder else ["CausalLM", "ImageTextToText"]
    for task in tasks:
        kind = getattr(transformers, f"AutoModelFor{task}")
        try:
            return kind.from_pretrained(name, dtype=dtype, trust_remote_code=False, output_loading_info=True)
        except ValueError as error:
            if not str(error).startswith(UNKNOWN_CLASS):
                raise
    kind = type(config).__name__
    raise InputError(f"--model {name}: transformers has no model for {kind} among {', '.join(tasks)}")


@contextmanager
def told_in_one_line(
    place: str, untouched: tuple[type[Exception], ...] = (), more: Callable[[], str] = lambda: ""
) -> Iterator[None]:
    """Turn whatever transformers or torch raises into an InputError of one line: place, class, what it says, and more.

    Their errors have types of their own: damaged weights, impossible settings, a cache that a model cannot use. What
    this project refuses stays as it is, and so do errors of the types `untouched`.
    """
    try:
        yield
    except (InputError, *untouched):
        raise
    except torch.OutOfMemoryError as error:
        hint = "; allowed: a smaller --batch, or another --device"
        raise InputError(f"{place}: {one_line(error)}{hint}{more()}") from error
    except Exception as error:
        raise InputError(f"{place}: {one_line(error)}{more()}") from error


def check_at_hand(name: str) -> None:
    """Refuse a model that is no folder here and that the hub does not give: prompts would be blamed for it."""
    if Path(name).exists():
        return
    try:
        imported().AutoConfig.from_pretrained(name, trust_remote_code=False)
    except OSError as error:
        raise InputError(
            f"--model {name}: is no folder here, and the Hugging Face hub does not give it"
            f" ({one_line(error)[:90]} ...); allowed: a folder, or a name on the hub and a network"
        ) from None
    except ValueError:  # a model of a kind that transformers does not know: told when it is loaded
        return


def load_tokenizer(name: str) -> object:
    """Return the model's tokenizer, or why there is none: prompts of token ids need none."""
    transformers = imported()
    try:
        return transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # a broken file, a missing package, no network: each has a type of its own
        return NoTokenizer(one_line(error))


def imported() -> object:
    """Return the transformers package; InputError where it is missing."""
    try:
        import transformers
    except ImportError:
        raise InputError(
            "--model needs transformers, which this Python lacks: pip install 'transformers>=5,<6'"
        ) from None
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)  # every retry without a network is a line
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def one_line(error: Exception) -> str:
    """Return an error's class and what it says, shortened, in one line."""
    said = " ".join(str(error).split())
    if len(said) > LONGEST_REASON:
        said = said[:LONGEST_REASON].rpartition(" ")[0] + " ..."
    return ": ".join(each for each in (type(error).__name__, said) if each)


def short_name(name: str) -> str:
    """Return how a model is called in a header: its name on the hub, or its folder's own name."""
    return Path(name).resolve().name if Path(name).exists() else name
