"""Small tables of measured layers and exchanges, laid out as aiconfigurator-core does, with times one can work out."""

import pyarrow as pa
import pyarrow.parquet as pq

SHAPE = {"hidden_size": 64, "inter_size": 32, "num_experts": 8, "topk": 2}
TOKENS = (1, 2, 4, 8, 16, 64)
SKEW = {"balanced": 1.0, "power_law_1.2": 1.5}


def layer_us(devices, tokens):
    """Ten us, five for every active expert of a device, and one for every selection there, all balanced."""
    selections = tokens * SHAPE["topk"] / devices
    return 10 + 5 * min(SHAPE["num_experts"] / devices, selections) + selections


def layer_rows(version, dtype="bfloat16", kernel="grouped", slower=1.0, **changed):
    return [
        {
            "framework": "VLLM", "version": version, "device": "NVIDIA Toy", "op_name": "moe", "kernel_source": kernel,
            "moe_dtype": dtype, "num_tokens": tokens, **SHAPE, "moe_tp_size": whole, "moe_ep_size": devices,
            "distribution": spread, "latency": slower * factor * whole * layer_us(devices, tokens) / 1e3, **changed,
        }
        for whole in (1, 2) for devices in (1, 2, 4) for tokens in TOKENS for spread, factor in SKEW.items()
    ]  # fmt: skip


def exchange_rows():
    """Dispatch takes 20 us and one a token, combine as long; a kernel of few tokens alone is quicker."""
    return [
        {
            "comm_backend": backend, "phase": phase, "comm_dtype": "default", "ep_size": 4, "node_num": nodes,
            "hidden_size": SHAPE["hidden_size"], "topk": SHAPE["topk"], "num_experts": SHAPE["num_experts"],
            "num_tokens": tokens, "sms": processors, "latency": nodes * (fixed + tokens) / 1e3,
        }
        for backend, processors, fixed, most in (("deepep_ht", 20, 20, 64), ("deepep_ll", 0, 5, 4))
        for phase in ("dispatch", "combine") for nodes in (1, 2) for tokens in TOKENS if tokens <= most
    ]  # fmt: skip


def write(rows, folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / name)


def write_moe_tables(folder):
    """Write a GPU with two frameworks, three versions of one, and one GPU more."""
    for version, slower in (("0.3.0", 3.0), ("0.9.0", 2.0), ("0.24.0", 1.0)):
        rows = layer_rows(version, slower=slower)
        rows += layer_rows(version, "fp8") if version == "0.9.0" else []
        write(rows, folder / "toy_sxm" / "moe" / "vllm" / version, "moe_perf.parquet")
    write(layer_rows("1.0", topk=1), folder / "toy_sxm" / "moe" / "sglang" / "1.0", "moe_perf.parquet")
    write(layer_rows("0.24.0"), folder / "toy_pcie" / "moe" / "vllm" / "0.24.0", "moe_perf.parquet")
    write(exchange_rows(), folder / "toy_sxm" / "comm" / "vllm" / "0.24.0", "moe_a2a_perf.parquet")
    return folder
