"""The page: five questions, a tab each."""

from __future__ import annotations

from bokeh.document import Document
from bokeh.models import Tabs

from moe_replay.figures.live.answering_processes import Lanes
from moe_replay.figures.live.fidelity_screen import FidelityScreen
from moe_replay.figures.live.memory_screen import MemoryScreen
from moe_replay.figures.live.page_inputs import PageInputs
from moe_replay.figures.live.page_style import whenever
from moe_replay.figures.live.routing_screen import RoutingScreen
from moe_replay.figures.live.settings_screen import SettingsScreen
from moe_replay.figures.live.time_screen import TimeScreen


class Page:
    """All screens of one browser window; each asks for its own answers, from when it is looked at first."""

    def __init__(self, inputs: PageInputs, lanes: Lanes) -> None:
        self.settings = SettingsScreen(inputs, lanes)
        self.memory = MemoryScreen(inputs, lanes)
        self.time = TimeScreen(inputs, lanes, lambda: self.settings.controls.choice)
        self.routing = RoutingScreen(inputs, lanes)
        self.fidelity = FidelityScreen(inputs)
        self.screens = [self.settings, self.memory, self.time, self.routing, self.fidelity]
        self.tabs = Tabs(tabs=[screen.panel for screen in self.screens])
        self.begun: set[int] = set()
        whenever(self.tabs, "active", self.begin)

    def put_into(self, document: Document) -> None:
        """Add the page to a document, and ask for the first answers."""
        document.title = "moe-replay: what if?"
        document.add_root(self.tabs)
        self.begin()

    def begin(self) -> None:
        """Let the screen that is looked at ask, once; what explains the first screen looks what that is set to."""
        screen = self.screens[self.tabs.active]
        if self.tabs.active not in self.begun or screen is self.time:
            self.begun.add(self.tabs.active)
            screen.start()
