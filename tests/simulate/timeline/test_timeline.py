"""Timelines: what a Perfetto file says, parsed back, is what the records say, once and to the nanosecond."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from moe_replay.simulate.commands.timeline_command import load_named
from moe_replay.simulate.timeline.counters import level, waiting_selections
from moe_replay.simulate.timeline.pass_flows import pass_flows
from moe_replay.simulate.timeline.run_timeline import run_timeline
from moe_replay.simulate.timeline.tracks import MESSAGE_KINDS, tracks_of
from moe_replay.traces.command_line.command import status_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.runs.run_records import load_run, run_names
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

pytest.importorskip("perfetto")
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

COSTS = "--affine 20000,2000"
WORLDS = {
    "queues": f"run toy.trace.parquet {COSTS} --queue-size 4 --arrivals closed --in-flight 16",
    "devices": f"run toy.trace.parquet {COSTS} --queue-size 4 --arrivals closed --in-flight 16 --devices 2",
    "memory": f"memory toy.trace.parquet {COSTS} --expert-bytes 4MB --bandwidth 16 --cache lru --slots 4 --no-explain",
    "linked": f"run toy.trace.parquet {COSTS} --scheduler lockstep --arrivals steps --devices 4 --nodes 2 "
    "--links h800-ndr --micro-batches 2 --dispatch-bytes 2112 --combine-bytes 4096",
    "linked-queues": f"run toy.trace.parquet {COSTS} --queue-size 4 --arrivals closed --in-flight 16 --devices 4 "
    "--nodes 2 --links h800-ndr --dispatch-bytes 2112 --combine-bytes 4096",
}


def simulate(line):
    from moe_replay.simulate.__main__ import app

    return status_of(app, "simulate", line.split())


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """A folder of run records for each world."""
    folder = tmp_path_factory.mktemp("worlds")
    trace = synthetic_trace(SyntheticSpec(sequences=20, layers=3, experts=8, k=2), np.random.default_rng(0)).trace
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_trace(trace, folder / "toy.trace.parquet")
        for name, line in WORLDS.items():
            assert simulate(f"{line} --out {name}") == 0
    return folder


@pytest.fixture
def parsed(worlds, monkeypatch, tmp_path):
    """A function (runs, options) -> the parsed file."""
    monkeypatch.chdir(worlds)

    def parse(*runs, options=""):
        out = tmp_path / "run.pftrace"
        named = (f"{name}/{run_names(name)[-1]}" for name in runs)  # of memory that with slots
        assert simulate(f"timeline {' '.join(named)} --out {out} --force {options}") == 0
        return Parsed(Trace.FromString(out.read_bytes()))

    return parse


class Parsed:
    """A file as a viewer reads it: tracks by uuid, and what happened on each."""

    def __init__(self, trace):
        self.name, self.parent, self.slices, self.values = {}, {}, defaultdict(list), defaultdict(list)
        self.flows, self.arrivals, names, open_slices = defaultdict(list), {}, {}, {}
        for packet in trace.packet:
            sequence = packet.trusted_packet_sequence_id
            if packet.HasField("track_descriptor"):
                described = packet.track_descriptor
                self.name[described.uuid], self.parent[described.uuid] = described.name, described.parent_uuid
                continue
            if packet.HasField("interned_data"):
                kinds = (packet.interned_data.event_names, packet.interned_data.debug_annotation_names)
                names[sequence] = [{each.iid: each.name for each in kind} for kind in kinds]
                continue
            event, at = packet.track_event, packet.timestamp
            if event.type == TrackEvent.TYPE_COUNTER:
                self.values[event.track_uuid].append((at, event.counter_value))
            elif event.type == TrackEvent.TYPE_SLICE_END:
                label, start, notes = open_slices.pop(event.track_uuid)
                self.slices[event.track_uuid].append((label, start, at, notes))
            else:
                label = names[sequence][0][event.name_iid]
                notes = {names[sequence][1][each.name_iid]: each.int_value for each in event.debug_annotations}
                for flow in (*event.flow_ids, *event.terminating_flow_ids):
                    self.flows[flow].append((event.track_uuid, at))
                if event.type == TrackEvent.TYPE_INSTANT:
                    self.arrivals[event.flow_ids[0]] = (at, notes)
                else:
                    assert event.track_uuid not in open_slices  # nothing overlaps on a track
                    open_slices[event.track_uuid] = (label, at, notes)
        assert not open_slices

    def on(self, start):
        """All slices of tracks whose names begin so: (label, start, end, notes)."""
        return [each for uuid, found in self.slices.items() if self.name[uuid].startswith(start) for each in found]


def records_of(worlds, name):
    return load_run(worlds / name, run_names(worlds / name)[-1])


@pytest.mark.parametrize("name", WORLDS)
def test_every_batch_transfer_and_message_is_there_once_with_its_times(name, worlds, parsed):
    records, file = records_of(worlds, name), parsed(name)
    batches = records.batches
    place = "slot" if name.startswith("linked") else "expert"
    keys = ("device", "layer", "block", "start_ns", "end_ns", "size")
    wanted = Counter(
        (f"device {device}", f"layer {layer} {f'{place} {block - 1}' if block else 'dense'}", start, end, size)
        for device, layer, block, start, end, size in zip(*(batches[key].tolist() for key in keys), strict=True)
    )
    found = Counter(
        (file.name[uuid], label, start, end, notes["size"])
        for uuid, slices in file.slices.items()
        if file.name[uuid].startswith("device")
        for label, start, end, notes in slices
    )
    assert found == wanted
    if records.transfers is not None:
        moved = records.transfers
        rows = zip(*(moved[key].tolist() for key in ("layer", "expert", "start_ns", "end_ns", "slot")), strict=True)
        wanted = Counter((f"layer {layer} expert {expert}", *rest) for layer, expert, *rest in rows)
        link = [(label, start, end, notes["slot"]) for label, start, end, notes in file.on("link")]
        assert Counter(link) == wanted
        assert link
    if records.messages is not None:
        sent = records.messages
        keys = ("kind", "layer", "destination", "start_ns", "end_ns", "bytes")
        wanted = Counter(
            (f"{MESSAGE_KINDS[kind]} layer {layer} to device {destination}", *rest)
            for kind, layer, destination, *rest in zip(*(sent[key].tolist() for key in keys), strict=True)
        )
        ports = [(label, start, end, notes["bytes"]) for label, start, end, notes in file.on("port")]
        assert Counter(ports) == wanted
        assert ports


def test_flows_join_a_pass_from_arrival_over_its_first_batch_to_its_last(worlds, parsed):
    passes, file = records_of(worlds, "queues").passes, parsed("queues")
    assert len(file.arrivals) == len(passes["pass_id"])
    rows = zip(*(passes[key].tolist() for key in ("pass_id", "arrival_ns", "start_ns")), strict=True)
    found = {notes["pass"]: (at, flow) for flow, (at, notes) in file.arrivals.items()}
    for number, arrival, start in rows:
        at, flow = found[number]
        assert at == arrival
        assert [when for _, when in file.flows[flow]][1] == start
        assert len(file.flows[flow]) == 3


@pytest.mark.parametrize("name", ["linked", "linked-queues"])
def test_passes_that_begin_on_several_devices_at_once_are_joined_to_their_homes(worlds, name):
    records = records_of(worlds, name)
    flows, batches = pass_flows(records), records.batches
    assert flows.not_joined == 0
    for row_P, layer in ((flows.first_P, 0), (flows.last_P, 3)):
        assert (batches["device"][row_P] == records.passes["sequence"] % 4).all()
        assert (batches["block"][row_P] == 0).all()
        assert (batches["layer"][row_P] == layer).all()
    assert (batches["start_ns"][flows.first_P] == records.passes["start_ns"]).all()
    if name == "linked":  # one token has the same micro-batch in every layer; the step ends later
        one_P = records.passes["tokens"] == 1
        assert 0 < one_P.sum() < len(one_P)
        assert (batches["micro_batch"][flows.last_P] == batches["micro_batch"][flows.first_P])[one_P].all()
        assert (batches["end_ns"][flows.last_P] <= records.passes["end_ns"]).all()
    else:
        assert (batches["end_ns"][flows.last_P] == records.passes["end_ns"]).all()


def test_a_pass_without_a_single_first_batch_is_not_joined_to_a_guess(worlds):
    records = records_of(worlds, "linked")
    flows = pass_flows(replace(records, header=records.header | {"homes": "row"}))
    assert flows.not_joined == len(flows.first_P)  # every step begins on four devices at once


@pytest.mark.parametrize("name", ["queues", "devices", "memory"])
def test_counters_agree_with_a_count_of_the_records(name, worlds, parsed):
    records, file = records_of(worlds, name), parsed(name)
    values = {file.name[uuid]: found for uuid, found in file.values.items()}
    passes, batches = records.passes, records.batches
    for at, value in values["passes in the system"]:
        assert value == (passes["arrival_ns"] <= at).sum() - (passes["end_ns"] <= at).sum()
    is_first = batches["layer"] == 0
    dense, expert = is_first & (batches["block"] == 0), is_first & (batches["block"] > 0)
    for at, value in values["selections waiting in layer 0"][::7]:
        brought = 2 * batches["tokens"][dense & (batches["end_ns"] <= at)].sum()
        assert value == brought - batches["size"][expert & (batches["start_ns"] <= at)].sum()
    ready = values["batches ready for device 0"]
    assert ready[-1][1] == 0
    on = batches["device"] == 0
    assert max(value for _, value in ready) <= on.sum()


def test_selections_that_wait_are_not_counted_where_k_varies():
    batches = {"layer": [0, 0], "block": [0, 1], "tokens": [3, 7], "size": [1, 7], "start_ns": [0, 5], "end_ns": [5, 9]}
    batches = {name: np.array(values) for name, values in batches.items()}
    assert waiting_selections(batches, 0) is None
    batches["size"][1] = 6
    counter = waiting_selections(batches, 0)
    assert (counter.at_X.tolist(), counter.value_X.tolist()) == ([5], [0])


def test_a_level_keeps_changes_alone():
    counter = level("x", np.array([0, 4, 4]), np.array([4, 9, 12]))
    assert (counter.at_X.tolist(), counter.value_X.tolist()) == ([0, 4, 9, 12], [1, 2, 1, 0])
    cut = counter.within(6, 10)
    assert (cut.at_X.tolist(), cut.value_X.tolist()) == ([6, 9], [2, 1])


def test_a_stretch_holds_what_reaches_into_it(worlds, parsed):
    records = records_of(worlds, "queues")
    batches = records.batches
    first, last = (int(each) // 1000 * 1000 for each in np.quantile(batches["start_ns"], [0.4, 0.6]))
    file = parsed("queues", options=f"--from {first // 1000}us --to {last // 1000}us")
    kept = (batches["end_ns"] >= first) & (batches["start_ns"] <= last)
    assert sorted(start for _, start, _, _ in file.on("device")) == sorted(batches["start_ns"][kept].tolist())
    assert all(first <= at <= last for found in file.values.values() for at, _ in found)
    with pytest.raises(InputError, match="nothing happens"):
        run_timeline(records, "x", 2**50, 2**51)


def test_two_runs_are_two_groups(worlds, parsed):
    file = parsed("queues", "devices")
    roots = [uuid for uuid, parent in file.parent.items() if not parent]
    assert len(roots) == 2
    below = Counter(file.parent[uuid] for uuid in file.slices)
    assert sorted(below[root] for root in roots) == [1, 2]
    assert len(file.arrivals) == sum(len(records_of(worlds, name).passes["pass_id"]) for name in ("queues", "devices"))


def test_messages_that_overlap_lie_on_several_tracks(worlds):
    names = [track.name for track in tracks_of(records_of(worlds, "linked"))]
    assert any("(1 of" in name for name in names if name.startswith("port"))
    assert not any("(1 of" in name for name in names if name.startswith("device"))


def test_what_names_no_single_run_is_refused(worlds, monkeypatch, capsys):
    monkeypatch.chdir(worlds)
    assert simulate(f"run toy.trace.parquet {COSTS} --queue-size 1,2 --out several") == 0
    capsys.readouterr()
    assert simulate("timeline several --out x.pftrace") == 2
    assert "holds 2 runs, allowed FOLDER/NAME of one: " in capsys.readouterr().err
    assert load_named(worlds / "several" / run_names(worlds / "several")[0])[0] == run_names(worlds / "several")[0]
    assert simulate("timeline nowhere/none --out x.pftrace") == 2
    assert simulate("timeline queues --from 2ms --to 1ms --out x.pftrace") == 2
    assert not (worlds / "x.pftrace").exists()
