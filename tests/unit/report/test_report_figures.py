"""Pictures and traces are made small without losing what matters."""

import base64
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from synthetic_result import make_result

from cocuyo.report.decimation import active_runs, embed_traces, extremes
from cocuyo.report.figures import nice_ticks, numbers_layer, outline_path, pool_runs
from cocuyo.report.pictures import MAX_SIDE_PX, grey_picture


def decode(uri):
    data = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)


@given(hnp.arrays(np.bool_, st.integers(1, 80)))
def test_runs_say_exactly_where_a_row_is_active(row):
    again = np.zeros_like(row)
    for start, stop in active_runs(row):
        assert not again[max(start - 1, 0) : stop + 1].any()  # runs neither touch nor overlap
        again[start:stop] = True
    np.testing.assert_array_equal(again, row)


@given(hnp.arrays(np.bool_, st.integers(1, 80)), st.data())
def test_pooling_keeps_every_active_frame_however_short(row, data):
    n_bins = data.draw(st.integers(1, len(row)))
    pooled = np.zeros(n_bins, np.bool_)
    for start, stop in pool_runs(active_runs(row), n_bins, len(row)):
        pooled[start:stop] = True
    expected = np.zeros(n_bins, np.bool_)
    expected[np.flatnonzero(row) * n_bins // len(row)] = True
    np.testing.assert_array_equal(pooled, expected)


@given(
    hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-1e3, 1e3, width=32)), st.data()
)
def test_decimation_keeps_the_extremes(values, data):
    pairs = extremes(values, data.draw(st.integers(1, len(values))))
    assert pairs.max() == values.max()
    assert pairs.min() == values.min()
    assert (pairs[::2] <= pairs[1::2]).all()


SIGNALS = ("delta_f_over_f", "dog")


def unpack(result, embedded):
    codes = np.frombuffer(base64.b64decode(embedded.codes), "<u2")
    codes = codes.reshape(len(embedded.rois), 2, embedded.n_points)
    ranges = np.array(embedded.ranges).reshape(-1, 2, 2)
    low, high = ranges[..., :1], ranges[..., 1:]
    return np.where(codes == 65535, np.nan, low + (high - low) * (codes / 65534))


def test_embedded_traces_are_exact_to_a_ten_thousandth_where_they_fit():
    result = make_result()
    embedded = embed_traces(result, np.array([4, 1]), SIGNALS, max_bytes=10**6)
    values = unpack(result, embedded)
    for row, roi in enumerate((4, 1)):
        for column, signal in enumerate((result.traces.delta_f_over_f, result.traces.dog)):
            np.testing.assert_allclose(
                values[row, column], signal[roi], atol=1e-4 * np.ptp(signal[roi])
            )


def test_embedded_traces_stay_in_their_room_and_keep_their_peaks():
    result = make_result(n_frames=3000)
    embedded = embed_traces(result, np.arange(6), SIGNALS, max_bytes=6 * 4 * 400)
    assert embedded.n_points <= 400
    values = unpack(result, embedded)
    dff = result.traces.delta_f_over_f
    np.testing.assert_allclose(values[:, 0].max(axis=1), dff.max(axis=1), rtol=1e-3)
    times = np.frombuffer(base64.b64decode(embedded.times), "<f4")
    assert times[0] == 0
    assert times[-1] == pytest.approx(result.times_s[-1])


def test_a_frame_without_a_value_stays_without_one():
    result = make_result()
    result.traces.dog[0, 7] = np.nan
    values = unpack(result, embed_traces(result, np.array([0]), SIGNALS, max_bytes=10**6))
    assert np.flatnonzero(np.isnan(values[0, 1])).tolist() == [7]


def test_a_picture_keeps_its_shape_and_its_contrast():
    image = np.zeros((30, 50), np.float32)
    image[10:20, 5:40] = 4000.0
    picture = decode(grey_picture(image))
    assert picture.shape == (30, 50)
    assert picture[15, 20] == 255
    assert picture[0, 0] == 0


def test_a_large_picture_is_made_smaller_on_both_sides_alike():
    noise = np.random.default_rng(0).random((900, 1800), np.float32)
    uri = grey_picture(noise)
    assert decode(uri).shape == (MAX_SIDE_PX // 2, MAX_SIDE_PX)
    assert uri.startswith("data:image/jpeg")


@pytest.mark.parametrize("value", [np.nan, np.inf, 5.0])
def test_a_picture_without_contrast_is_still_a_picture(value):
    assert decode(grey_picture(np.full((4, 6), value, np.float32))).shape == (4, 6)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 12))
def test_ticks_lie_on_the_axis_and_rise(low, span, n):
    ticks = nice_ticks(low, low + span, n)
    assert 1 <= len(ticks) <= 2.6 * n + 2
    assert np.all(np.diff(ticks) > 0)


def test_an_outline_is_written_in_whole_steps():
    result = make_result(n_rois=1)
    path = outline_path(result.rois, 0)
    rows, columns, _ = result.rois.pixels(0)
    assert path.startswith(f"M{columns[rows == rows.min()].min()} {rows.min()}h")
    assert path.endswith("z")


def test_numbers_stay_whole_within_the_picture():
    result = make_result()
    rows, columns = result.rois.frame_shape
    moved = np.array(result.rois.centroids)
    moved[0], moved[1] = (0, columns - 1), (rows - 1, 0)
    rois = SimpleNamespace(
        frame_shape=(rows, columns),
        accepted=np.ones(len(moved), bool),
        labels=100 + np.arange(len(moved)),
        centroids=moved,
    )
    field = SimpleNamespace(rois=rois, diameter_px=result.diameter_px, pixel_size_um=None)
    page = numbers_layer(field, [0, 1])
    size = float(re.search(r'font-size="([\d.]+)"', page)[1])
    places = re.findall(r'x="([\d.]+)" y="([\d.]+)">(\d+)<', page)
    assert [number for *_, number in places] == ["100", "101"]
    for x, y, _ in places:
        assert 0.9 * size - 0.1 <= float(x) <= columns - 0.9 * size + 0.1
        assert 0.7 * size - 0.1 <= float(y) <= rows


def test_numbers_of_a_crowd_do_not_lie_on_each_other():
    rng = np.random.default_rng(1)
    rois = SimpleNamespace(
        frame_shape=(512, 400),
        accepted=np.ones(250, bool),
        labels=1 + np.arange(250),
        centroids=rng.uniform(0, 1, (250, 2)) * (511, 399),
    )
    page = numbers_layer(SimpleNamespace(rois=rois, diameter_px=9, pixel_size_um=1.0), range(250))
    size = float(re.search(r'font-size="([\d.]+)"', page)[1])
    kind = r'class="number( hidden)?" data-roi="\d+" x="([\d.]+)" y="([\d.]+)">(\d+)<'
    found = re.findall(kind, page)
    assert [int(number) for *_, number in found] == list(range(1, 251))
    shown = [(float(x), float(y), len(number)) for hidden, x, y, number in found if not hidden]
    assert len(shown) > 230
    for i, (x, y, digits) in enumerate(shown):
        # A digit is about 0.7 of its height wide, and 0.75 high above its line.
        assert 0.35 * size * digits <= x + 0.1
        assert x - 0.1 <= 400 - 0.35 * size * digits
        for x2, y2, digits2 in shown[:i]:
            apart = abs(x - x2) >= 0.35 * size * (digits + digits2) - 0.1
            assert apart or abs(y - y2) >= 0.75 * size


def test_a_number_that_had_to_move_is_tied_to_its_place():
    rois = SimpleNamespace(
        frame_shape=(200, 200),
        accepted=np.ones(12, bool),
        labels=1 + np.arange(12),
        centroids=np.full((12, 2), 100.0),
    )
    page = numbers_layer(SimpleNamespace(rois=rois, diameter_px=9, pixel_size_um=None), range(12))
    leaders = re.findall(r'class="leader" d="M100.5 100.5L([\d.]+) ([\d.]+)"', page)
    assert 0 < len(leaders) < 11
    assert page.count('class="number"') == 12
