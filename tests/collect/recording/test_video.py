"""Clips: frames cut and shrunk, and the trace of a switch transformer that looked at them."""

import numpy as np
import pytest
import torch

from moe_replay.collect.datasets.clips import read_clip
from moe_replay.collect.models.vision_transformer import VisionConfig, VisionTransformer
from moe_replay.collect.recording.clip_recording import record_clip
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace

av = pytest.importorskip("av", reason="clips are decoded with av")
SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Twelve frames of 48 x 32 pixels, stored without loss; the middle square is dark, what is cut off is bright."""
    path = tmp_path_factory.mktemp("clips") / "toy.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        for number in range(12):
            frame = np.full((32, 48, 3), 250, np.uint8)
            frame[:, 8:40] = 10 * number
            frame[:16, 8:24, 0] += 5
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.fixture(scope="module")
def model():
    config = VisionConfig("switch", 4, 16, 16, 2, 2, 4)
    return VisionTransformer(config, SHAPE, torch.full((192,), 60.0), torch.full((192,), 30.0), 5, 0).eval()


ABOUT = {"data": "toy", "training": {"seed": 0}, "history": [{"test_accuracy": 0.5}]}


def test_frames_are_the_middle_square_shrunk_by_area(clip):
    taken = read_clip(clip, SHAPE)
    assert taken.frames_NF.shape == (12, 192)
    red, green, blue = taken.frames_NF[7].reshape(SHAPE)
    assert (green == 70).all()
    assert (blue == 70).all()
    assert (red[:4, :4] == 75).all()
    assert (red[4:] == 70).all()
    every = read_clip(clip, SHAPE, every=5, limit=2)
    np.testing.assert_array_equal(every.frames_NF, taken.frames_NF[[0, 5]])


def test_a_patch_is_a_position_and_a_frame_a_step(clip, model, tmp_path):
    taken, out = read_clip(clip, SHAPE), tmp_path / "x.trace.parquet"
    record_clip(model, ABOUT, taken, "static", 23, 5, out)
    trace = load_trace(out)
    assert (trace.T, trace.L, trace.K, trace.E) == (12 * 4, 2, 4, 4)
    np.testing.assert_array_equal(trace.step_T, np.arange(12).repeat(4))
    np.testing.assert_array_equal(trace.position_T, np.tile(np.arange(4), 12))
    with torch.inference_mode():  # the first layer by hand, one frame alone
        x = model.embedding(model.patches(torch.from_numpy(taken.frames_NF[6:7]))) + model.position_PM
        block = model.blocks[0]
        x = block.norm(x + block.attention(block.attention_norm(x))).flatten(0, 1)
        expected = block.feed_forward.gate(x).experts_NK[:, 0]
    np.testing.assert_array_equal(trace.experts_TLK[24:28, 0, 0], expected)
    np.testing.assert_allclose(trace.norm_TL[24:28, 0], x.norm(dim=1), rtol=1e-5)


def test_what_is_no_clip_or_no_switch_model_is_refused(clip, model, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"text\.mp4: not a clip that can be decoded"):
        read_clip(tmp_path / "text.mp4", SHAPE)
    with pytest.raises(InputError, match="no such clip"):
        read_clip(tmp_path / "absent.mp4", SHAPE)
    with pytest.raises(InputError, match="1 frames are left, allowed two or more"):
        read_clip(clip, SHAPE, every=100)
    with pytest.raises(InputError, match="a model of 1 channels, allowed 3"):
        read_clip(clip, (1, 8, 8))
    dense = VisionTransformer(VisionConfig("dense", 1, 16, 16, 1, 2, 4), SHAPE, torch.zeros(192), torch.ones(192), 5, 0)
    with pytest.raises(InputError, match="feed-forward part is dense, allowed switch"):
        record_clip(dense, ABOUT, read_clip(clip, SHAPE), "static", 23, 5, tmp_path / "x.trace.parquet")
