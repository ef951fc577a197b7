"""Networks without weights, so that what stands around the networks can be tested."""

import cv2
import numpy as np

from cocuyo.pipeline import FORMAT_VERSION, PRESETS, ModelSettings, write_settings
from cocuyo.postprocessing import CHANNELS
from cocuyo.segmentation import TemporalState


class FakeEngine:
    """Blobs for the spatial network, the largest contrast so far for the temporal one."""

    name = "fake"
    precision = "f32"

    def __init__(self, frame_shape, *, diameter_px):
        self.frame_shape = frame_shape
        self.n_segmented = 0
        self._sigma = diameter_px / 2.6

    def segment(self, image):
        assert image.shape == self.frame_shape
        self.n_segmented += 1
        wide = cv2.GaussianBlur(image, (0, 0), 2 * self._sigma)
        blobs = cv2.GaussianBlur(image, (0, 0), self._sigma / 2) - wide
        return _sigmoid(40 * (blobs - 0.1))

    def start(self):
        zeros = np.zeros((1, 1, *self.frame_shape), np.float32)
        return TemporalState(zeros, np.full_like(zeros, -1.0))

    def step(self, probability, contrast, state):
        assert probability.shape == contrast.shape == self.frame_shape
        smooth = cv2.GaussianBlur(contrast, (0, 0), self._sigma / 2)[None, None]
        return TemporalState(smooth, np.maximum(state.maximum, smooth))

    def classify(self, state):
        return _sigmoid(state.maximum[0, 0] - 6)

    def outline(self, views):
        """Leave every outline where it was, and have no opinion."""
        return views[:, CHANNELS.index("half maximum")], np.zeros(len(views), np.float32)


def use_fake_engine(monkeypatch, folder, *, diameter_px, config=PRESETS["default"]):
    """Write a model folder with settings alone, and let `segment` run it with the fake."""

    def load(folder, networks, *, frame_shape, engine, precision, formats, n_threads):
        return FakeEngine(frame_shape, diameter_px=diameter_px)

    monkeypatch.setattr("cocuyo.pipeline.run.load_engine", load)
    settings = ModelSettings(
        format_version=FORMAT_VERSION, name="fake", preset="default", pipeline=config
    )
    write_settings(folder, settings)
    return folder


def _sigmoid(values):
    return (1 / (1 + np.exp(-np.clip(values, -30, 30)))).astype(np.float32)
