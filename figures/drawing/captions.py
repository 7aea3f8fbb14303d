"""Caption files: the claim of a figure in one sentence, the numbers behind it, and the tables it was drawn from."""

from moe_replay.figures.drawing.table_files import TableFiles


def caption(name: str, tables: TableFiles, claim: dict) -> str:
    """Return the Markdown text of a caption."""
    lines = [f"# {name}", "", claim["claim"], ""]
    if claim["numbers"]:
        lines += ["## Numbers", "", *number_lines(claim["numbers"], ""), ""]
    if tables.holes:
        lines += ["## Missing or failed", "", *[f"- {line}" for line in tables.holes], ""]
    lines += [
        "## Tables",
        "",
        *[f"- {table}, sha256 {digest}..." for table, digest in sorted(tables.digests.items())],
        "",
    ]
    return "\n".join(lines)


def number_lines(numbers: dict, indent: str) -> list[str]:
    """Return nested numbers as a Markdown list: one line for what holds plain values only."""
    plain = {key: value for key, value in numbers.items() if not isinstance(value, dict)}
    lines = [f"{indent}- {', '.join(f'{key}: {shown(value)}' for key, value in plain.items())}"] if plain else []
    for key, value in numbers.items():
        if isinstance(value, dict) and any(isinstance(each, dict) for each in value.values()):
            lines += [f"{indent}- {key}", *number_lines(value, indent + "  ")]
        elif isinstance(value, dict):
            lines.append(f"{indent}- {key}: {', '.join(f'{name} {shown(each)}' for name, each in value.items())}")
    return lines


def shown(value: object) -> str:
    """Return a number with four digits, anything else as text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)
