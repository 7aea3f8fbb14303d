"""Columns about requests that a serving engine served: when their tokens were there."""

from moe_replay.traces.glossary.column import MEASURED, WHOLE, Column

TIMED = f"of `analysis requests` all requests; else {MEASURED}"

COLUMNS = (
    Column("request", "", "number of a request, in the order of arrival"),
    Column("source_sequence", "", "the sequence of the trace that the request is"),
    Column("prompt_tokens", "tokens", "rows of the prompt"),
    Column("output_tokens", "tokens", "tokens that were emitted: one by the prompt, one by every further row"),
    Column("first_token_ns", "ns", "when the first token was there: the step that ended the prompt was over"),
    Column("kv_bytes", "bytes", "what of the prompt was sent from the pool of prompts to the pool that decodes"),
    Column("decode_pool_ns", "ns", "when the pool that decodes had the prompt; -1: the request never went there"),
    Column("requests", "", "requests that were served, of one seed", WHOLE),
    Column("output_tokens_per_s", "tokens/s", "tokens that were emitted, from the first arrival to the last end", WHOLE,
           title="tokens out/s"),
    Column("ttft_mean_ms", "ms", "time to first token: mean from a sequence's arrival until its prompt is computed "
           "(without a prompt: its first decoding pass); only of traces that tell prompts from decoding", TIMED,
           title="TTFT ms"),
    Column("ttft_p50_ms", "ms", "median time from arrival to first token", TIMED, title="TTFT p50"),
    Column("ttft_p95_ms", "ms", "95 % of the requests have their first token at most this long after they arrived",
           TIMED, title="TTFT p95"),
    Column("ttft_p99_ms", "ms", "99 % of the requests have their first token at most this long after they arrived",
           TIMED, title="TTFT p99"),
    Column("tpot_mean_ms", "ms", "time per output token: mean over sequences of the time per token behind the first: "
           "what their decoding passes take, each from the end of the pass before, over the tokens they decode", TIMED,
           title="TPOT ms"),
    Column("tpot_p50_ms", "ms", "median over requests of the time per token behind the first", TIMED, title="TPOT p50"),
    Column("tpot_p95_ms", "ms", "95 % of the requests take at most this long per token behind the first", TIMED,
           title="TPOT p95"),
    Column("tpot_p99_ms", "ms", "99 % of the requests take at most this long per token behind the first", TIMED,
           title="TPOT p99"),
    Column("within", "", "yes: mean over seeds and the upper end of its interval keep the targets; by mean: only the "
           "mean does; no"),
)  # fmt: skip
