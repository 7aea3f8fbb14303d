"""Link files: what they hold, what is refused, and the machines that have a name."""

import pytest

from moe_replay.traces.clusters.link_file import LinkFile, machine_by_name, read_links, shipped_machines
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


def test_machines_have_sources_and_the_published_figures():
    found = {name: read_links(path) for name, path in shipped_machines().items()}
    assert all("arXiv" in each.source for each in found.values())
    assert (found["h800-ndr"].inside_bytes_per_s, found["h800-ndr"].network_bytes_per_s) == (160e9, 50e9)
    assert found["a100-hdr"].network_bytes_per_s == 25e9
    assert found["pcie4-ethernet100"].nics == 1
    with pytest.raises(InputError, match=r"no machine of that name, and no FILE\.toml; known: a100-hdr"):
        machine_by_name("nvlink")
    with pytest.raises(InputError, match="no such file"):
        machine_by_name("nvlink.toml")
