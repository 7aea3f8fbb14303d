"""What travels with the source: every shipped log has room for what is measured next."""

from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[2] / "traces" / "data"
MB = 10**6


def test_the_shipped_logs_are_small():
    sizes = {path.relative_to(SHIPPED): path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()}
    assert sizes
    assert sum(sizes.values()) <= 45 * MB
    assert {path for path, size in sizes.items() if size > 10 * MB} == set()
