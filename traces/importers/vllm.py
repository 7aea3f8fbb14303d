"""`vllm`: responses of vLLM served with `--enable-return-routed-experts`.

`choices[i].routed_experts` is base64 of .npy bytes, (tokens - 1, hidden layers, k), from the request's
`routed_experts_prompt_start` on; ids are logical. Dense layers keep their slots as zeros. Versions, endpoints and
plugins write other types and forms (`serving/routed_arrays.py`), and may have the prompt's rows apart,
`prompt_routed_experts`.
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


def read(source: Source) -> Trace:
    """Return the trace of vLLM's responses, every choice a sequence; `--layers` names the MoE layers."""
    return read_responses(source, response_of)


def response_of(place: str, content: dict) -> Response:
    """Return the choices of a response."""
    key = "outputs" if "choices" not in content and "outputs" in content else "choices"
    choices = entry(place, content, key, list)
    if not choices:
        raise InputError(f"{place}: {key} is empty, allowed at least one")
    prompts, answers = content.get("prompt_token_ids"), []
    several = isinstance(prompts, list) and bool(prompts) and all(isinstance(each, list) for each in prompts)
    if several and len(choices) % len(prompts):
        raise InputError(f"{place}: {len(choices)} choices for {len(prompts)} prompts, allowed equally many for each")
    shared = {PROMPT_KEY: content.get(PROMPT_KEY)}
    shared |= {f"{PROMPT_KEY}_{name}": content.get(f"{PROMPT_KEY}_{name}") for name in ("dtype", "shape")}
    for at, choice in enumerate(choices):
        where = f"{place}: {key}[{at}]"
        of_type(place, f"{key}[{at}]", choice, dict)
        prompt = prompts[at * len(prompts) // len(choices)] if several else prompts
        tells = (choice, {"prompt_token_ids": prompt}, usage_of(where, choice) or {})
        own = shared | {name: choice[name] for name in shared if name in choice}
        answers.append(Answer(where, choice, tells, choice.get("finish_reason"), own))
    return Response(tuple(answers), usage_of(place, content))
