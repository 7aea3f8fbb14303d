"""`sglang`: responses of SGLang served with `--enable-return-routed-experts`.

base64 of raw int32 without a header, or of the type that `routed_experts_dtype` says, for the tokens
[routed_experts_start_len, tokens - 1), every hidden layer and k experts; `/generate` has it in `meta_info`, the OpenAI
endpoints in `sgl_ext`. Padding is -1.
"""

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.import_source import Source
from moe_replay.traces.importers.serving.responses import (
    PROMPT_KEY,
    Answer,
    Response,
    entry,
    of_type,
    read_responses,
    usage_of,
)
from moe_replay.traces.selections import Trace

USUAL = "<i4"  # the type of its raw bytes where nothing says it
PLACES = ("meta_info", "sgl_ext")


def read(source: Source) -> Trace:
    """Return the trace of SGLang's responses; --hidden-layers and --k give a shape that bytes do not tell."""
    return read_responses(source, response_of)


def response_of(place: str, content: dict) -> Response:
    """Return the sequence of a response, or those of its choices where each has its own."""
    choices = content.get("choices")
    if not isinstance(choices, list) or any(name in content for name in PLACES):
        return Response((answer_of(place, content),), usage_of(place, content), USUAL)
    if not choices:
        raise InputError(f"{place}: choices is empty, allowed at least one")
    answers = [
        answer_of(f"{place}: choices[{at}]", of_type(place, f"choices[{at}]", choice, dict))
        for at, choice in enumerate(choices)
    ]
    return Response(tuple(answers), usage_of(place, content), USUAL)


def answer_of(place: str, content: dict) -> Answer:
    """Return the sequence in an object that holds `meta_info` or `sgl_ext`."""
    found = [name for name in PLACES if name in content]
    if not found:
        raise InputError(f"{place}: neither meta_info nor sgl_ext, allowed a response of SGLang with one of them")
    where = f"{place}: {found[0]}"
    holder = entry(place, content, found[0], dict)
    choices = content.get("choices")
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict) else {}
    finish = next((each["finish_reason"] for each in (holder, content, choice) if each.get("finish_reason")), None)
    return Answer(where, holder, (holder, content, choice), finish, {PROMPT_KEY: holder.get(PROMPT_KEY)})
