"""What travels with the source: every shipped log has room for what is measured next."""

from pathlib import Path

from moe_replay.traces.runs.port_log import CALIBRATION, CHECK, exchanges_in, load_port_log

SHIPPED = Path(__file__).resolve().parents[2] / "traces" / "data"
MB = 10**6


def test_the_shipped_logs_are_small():
    sizes = {path.relative_to(SHIPPED): path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()}
    assert sizes
    assert sum(sizes.values()) <= 45 * MB
    assert {path for path, size in sizes.items() if size > 10 * MB} == set()


def test_executed_exchanges_are_of_two_and_four_devices_with_a_link_of_every_way():
    """What the figure all_to_all and `--links` rest on: repeated, at least 12 patterns, none of them fitted."""
    paths = sorted(SHIPPED.glob("*/cluster/ports.parquet"))
    assert paths
    for path in paths:
        table, header = load_port_log(path)
        exchanges = list(exchanges_in(table))
        assert {link["way"] for link in header["links"]} == set(header["ways"]) == {each.way for each in exchanges}
        for way in header["ways"]:
            for devices in (2, 4):
                own = [each for each in exchanges if (each.way, len(each.bytes_DD)) == (way, devices)]
                checked = {each.pattern for each in own if each.purpose == CHECK}
                assert len(checked) >= 12
                assert not checked & {each.pattern for each in own if each.purpose == CALIBRATION}
        assert len(set(table["repetition"].to_pylist())) >= 3
