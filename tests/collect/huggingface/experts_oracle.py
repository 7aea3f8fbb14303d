"""Which experts the experts' own modules were given, token by token: an oracle beside the collector's hooks on routers.

Nothing of the collector is used here. Every module of experts of a model is found by its class's name and its `forward`
is wrapped. What counts is what it was called with: expert ids and weights (most families), scaled copies of the tokens
for every expert (Llama 4), tokens that each expert's own module got (Switch, NLLB-MoE), or tokens sorted by expert
(JetMoE). An id at weight 0, and one beyond the experts that have weights, is no expert that took part.
"""

import re
from collections import defaultdict

import torch
from torch import nn

Call = list[set[int]]  # the experts of every token


class Given:
    """The calls of every module of experts while it is used as a context: `calls[name]`, in their order."""

    def __init__(self, model: nn.Module) -> None:
        self.calls: dict[str, list[Call]] = defaultdict(list)
        self.wrapped: list[tuple[nn.Module, str]] = []
        self.model = model

    def __enter__(self) -> "Given":
        for name, module in self.model.named_modules():
            kind = type(module).__name__
            if kind in ("JetMoeMoE", "JetMoeMoA"):
                self.wrap(module, "forward" if kind == "JetMoeMoE" else "map", self.sorted_tokens(name, module))
            elif kind.endswith("Experts") and name.endswith(".experts"):
                if isinstance(module, nn.ModuleDict | nn.ModuleList):
                    self.wrap(module, "forward", self.single_modules(name, module))
                else:
                    self.wrap(module, "forward", self.ids(name, module))
        return self

    def __exit__(self, *_: object) -> None:
        for module, method in self.wrapped:
            delattr(module, method)

    def wrap(self, module: nn.Module, method: str, around: object) -> None:
        """Put a function of (the method itself, its arguments) in the place of a method."""
        own = getattr(module, method)
        setattr(module, method, lambda *given: around(own, *given))
        self.wrapped.append((module, method))

    def ids(self, name: str, module: nn.Module) -> object:
        """Of modules with the weights of all experts, called with ids and weights, or with copies of the tokens."""
        real = min((len(each) for each in module.parameters(recurse=False) if each.ndim == 3), default=2**31)

        def around(own: object, hidden: torch.Tensor, *given: torch.Tensor) -> object:
            if not given:
                took_EN = hidden.view(real, -1, hidden.shape[-1]).any(-1)
                self.calls[name].append([set(torch.where(row_E)[0].tolist()) for row_E in took_EN.T])
                return own(hidden)
            index, weights = given
            counts_NK = (index < real) & (weights != 0 if weights.shape == index.shape else torch.tensor(True))
            rows = zip(index.tolist(), counts_NK.tolist(), strict=True)
            self.calls[name].append([{e for e, took in zip(*row, strict=True) if took} for row in rows])
            return own(hidden, index, weights)

        return around

    def single_modules(self, name: str, module: nn.Module) -> object:
        """Of modules that hold a module per expert: its tokens are told by their values."""
        got: list[tuple[int, torch.Tensor]] = []
        experts = [each for child, each in module.named_children() if child[-1].isdecimal()]
        for number, expert in enumerate(experts):
            self.wrap(expert, "forward", lambda own, rows, number=number: (got.append((number, rows)), own(rows))[1])

        def around(own: object, hidden: torch.Tensor, *others: torch.Tensor) -> object:
            got.clear()
            result = own(hidden, *others)
            self.calls[name].append(by_value(hidden.view(-1, hidden.shape[-1]), got))
            return result

        return around

    def sorted_tokens(self, name: str, module: nn.Module) -> object:
        """Of JetMoE's blocks, whose first product gets tokens sorted by expert and the number of each."""
        got: list[tuple[int, torch.Tensor]] = []

        def product(own: object, rows: torch.Tensor, sizes: list[int]) -> torch.Tensor:
            got.extend(enumerate(rows.split(sizes)))
            return own(rows, sizes)

        self.wrap(module.input_linear, "forward", product)

        def around(own: object, hidden: torch.Tensor) -> object:
            got.clear()
            result = own(hidden)
            self.calls[name].append(by_value(hidden.view(-1, hidden.shape[-1]), got))
            return result

        return around

    def tokens(self, part: str, skipped: int) -> dict[int, Call]:
        """The experts of all tokens, by layer, of the modules with a word in their names; not of the first calls."""
        found = {}
        for name in self.calls:
            if re.search(part, name):
                layer = int(re.search(r"\.(\d+)\.", name)[1])
                assert layer not in found, f"two modules of experts ran in layer {layer}"
                found[layer] = [token for call in self.calls[name][skipped:] for token in call]
        return dict(sorted(found.items()))


def by_value(hidden_NH: torch.Tensor, got: list[tuple[int, torch.Tensor]]) -> Call:
    """The experts of every token, told by the values of the rows that each expert got."""
    found = [set() for _ in hidden_NH]
    for expert, rows in got:
        for row in rows.reshape(-1, hidden_NH.shape[-1]):
            alike = torch.where((hidden_NH == row).all(1))[0].tolist()
            assert len(alike) == 1, "tokens that cannot be told apart"
            found[alike[0]].add(expert)
    return found
