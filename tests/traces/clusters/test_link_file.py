"""Link files: what they hold, what is refused, and the machines that have a name."""

import pytest

from moe_replay.traces.clusters.link_file import LinkFile, machine_by_name, read_links, shipped_machines, write_links
from moe_replay.traces.errors import InputError

PLAIN = """
source = "measured"
[inside]
latency = "2us"
bandwidth = "160GB/s"
[network]
latency = 5
bandwidth = "400Gbit/s"
nics = 4
[exchange]
mode = "hierarchical"
unit = "selection"
dispatch_bytes = "2KiB"
combine_bytes = 4096
"""


def test_a_file_says_all(tmp_path):
    (tmp_path / "mine.toml").write_text(PLAIN)
    found = LinkFile(2000, 160e9, 5000, 50e9, 4, "hierarchical", "selection", 2048, 4096, "measured")
    assert machine_by_name(tmp_path / "mine.toml") == ("mine", found)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"2us"', "-1", r"\[inside\] latency: -1 is not allowed"),
        ('"2us"', "true", r"\[inside\] latency is True"),
        ('latency = "2us"\n', "", r"\[inside\] latency is missing"),
        ('"160GB/s"', '"160 bananas"', r"\[inside\] bandwidth: '160 bananas' is no bandwidth"),
        ('"160GB/s"', '"0.1B/s"', r"\[inside\] bandwidth: 0.1B/s is not allowed"),
        ("nics = 4", "nics = 0", r"\[network\] nics is 0, allowed: integers 1"),
        ("nics = 4", "ports = 4", r"unknown key of \[network\] 'ports'; known: bandwidth, latency, nics"),
        ("[exchange]", "[exchanges]", "unknown section 'exchanges'; known: exchange, inside, network"),
        ('"hierarchical"', '"ring"', r"unknown \[exchange\] mode 'ring'; known: direct, hierarchical"),
        ('"2KiB"', "0", r"\[exchange\] dispatch_bytes: 0 is not allowed"),
        ('"measured"', "7", "source is 7, allowed: a text"),
        ("[inside]", "[inside", "no TOML file"),
    ],
)
def test_what_a_file_may_not_say_is_named(tmp_path, old, new, said):
    path = tmp_path / "mine.toml"
    path.write_text(PLAIN.replace(old, new, 1))
    with pytest.raises(InputError, match=said) as refused:
        read_links(path)
    assert str(refused.value).startswith(str(path))


# Of the ports of a device each way: half of what NVLink carries both ways together (data sheets of A100, H100, B200,
# GB200), 16 lanes of PCI Express at 16 and 32 Gbit/s with 128 of 130 bits for data, or what DeepSeek says that it used.
INSIDE = {
    "a100-hdr": 600e9 / 2, "h100-ndr": 900e9 / 2, "b200-ndr": 1.8e12 / 2, "gb200-nvl72-ndr": 1.8e12 / 2,
    "h800-ndr": 160e9, "pcie4-ethernet100": 16 * 16e9 / 8 * 128 / 130, "pcie5-ethernet400": 16 * 32e9 / 8 * 128 / 130,
}  # fmt: skip
GIGABITS = {
    "a100-hdr": 200, "h100-ndr": 400, "b200-ndr": 400, "gb200-nvl72-ndr": 400, "h800-ndr": 400,
    "pcie4-ethernet100": 100, "pcie5-ethernet400": 400,
}  # fmt: skip
# Published latencies of 64 bytes in us: (network, below one leaf switch or across leaf switches).
LEAF = {("InfiniBand", "below"): 2.8, ("InfiniBand", "across"): 3.7, ("RoCE", "below"): 3.6, ("RoCE", "across"): 5.6}
NVLINK_US = 3.33


def test_machines_have_the_published_figures_that_their_sources_name():
    found = {name: read_links(path) for name, path in shipped_machines().items()}
    assert found.keys() == INSIDE.keys() == GIGABITS.keys()
    for name, links in found.items():
        assert links.inside_bytes_per_s == pytest.approx(INSIDE[name], rel=1e-3)
        assert links.network_bytes_per_s == GIGABITS[name] * 1e9 / 8
        (published,) = (us for (kind, where), us in LEAF.items() if f"({kind} {where} " in links.source)
        assert links.network_latency_ns == published * 1e3
        assert links.inside_latency_ns == NVLINK_US * 1e3
        assert "arXiv 2505.09343, table 5" in links.source
    assert found["pcie4-ethernet100"].nics == 1
    with pytest.raises(InputError, match=r"no machine of that name, and no FILE\.toml; known: a100-hdr"):
        machine_by_name("nvlink")
    with pytest.raises(InputError, match="no such file"):
        machine_by_name("nvlink.toml")


@pytest.mark.parametrize(
    "links",
    [
        LinkFile(149_025, 19.9419e6, 0, 1.25e11),
        LinkFile(1, 1.0, 10**15 + 1, float("inf"), 3, "direct", "selection", 7, 2**31 - 1, 'said "so"\n\\ \x7f é'),
        *(read_links(path) for path in shipped_machines().values()),
    ],
)
def test_what_is_written_is_read(tmp_path, links):
    write_links(tmp_path / "mine.toml", links)
    assert read_links(tmp_path / "mine.toml") == links
