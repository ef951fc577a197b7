"""Recordings that are odd but can be used: what a run makes of them, and what it says."""

import cv2
import numpy as np
import pytest
import tifffile


def written(folder):
    return " ".join((*folder.record["notes"], *folder.record["warnings"]))


@pytest.fixture
def analysed(run, write_tiff, look, tmp_path):
    """Write frames as a TIFF and analyse them."""

    def analyse(frames, *options, **writing):
        outcome = run(write_tiff(frames, **writing), *options)
        assert outcome.status == 0, outcome.err
        assert "cocuyo: " not in outcome.err
        return look(tmp_path / "slice.cocuyo")

    return analyse


# --- Nothing to find ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype"), [(0, np.uint8), (700, np.uint16), (-5.5, np.float32), (np.nan, np.float32)]
)
def test_frames_of_one_value_or_none_give_a_whole_result_without_neurons(analysed, value, dtype):
    folder = analysed(np.full((60, 64, 72), value, dtype))
    folder.expect_whole(60, (64, 72))
    folder.expect_nothing_found()
    assert "60 of 60 frames hold no usable values" in written(folder)


def test_a_recording_in_which_no_candidate_passes_gives_a_whole_result_without_neurons(
    analysed, tmp_path, small
):
    (tmp_path / "strict.toml").write_text("[validation]\nthreshold_sd = 60.0\n")
    folder = analysed(small, "--config", tmp_path / "strict.toml")
    folder.expect_whole(60, (64, 72))
    folder.expect_nothing_found()
    rows = folder.table("rois.csv")[1]
    assert len(rows) == folder.record["n_candidates"] > 0
    assert all(row[10] for row in rows)  # each says why it was rejected


# --- Values ------------------------------------------------------------------------------------


def test_missing_and_negative_values_are_survived_and_said(analysed, simulated):
    frames = simulated.frames.astype(np.float32) - 2000
    frames[3, 5:9, 6:9] = np.nan
    frames[10] = np.nan
    frames[20, 4, 4] = np.inf
    frames[:, 40, 40] = np.nan
    folder = analysed(frames)
    folder.expect_whole(100, (80, 96))
    assert folder.record["n_accepted"] > 0
    assert "1 of 100 frames hold no usable values" in written(folder)


# --- Sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(33, 47), (17, 96), (79, 40)])
def test_frames_need_not_be_square_nor_even(analysed, simulated, shape):
    folder = analysed(np.ascontiguousarray(simulated.frames[:60, : shape[0], : shape[1]]))
    folder.expect_whole(60, shape)


def test_two_frames_are_enough(analysed, small):
    analysed(small[:2]).expect_whole(2, (64, 72))


# --- Kinds of file -----------------------------------------------------------------------------


def write_avi(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20, frames.shape[2:0:-1])
    if not writer.isOpened():
        pytest.skip("OpenCV cannot write MJPG here.")
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def colours_of(frames):
    grey = frames / frames.max()
    return (grey[..., None] * [250, 180, 90]).astype(np.uint8)


def test_a_tiff_in_colour_is_taken_as_grey_and_says_so(analysed, small):
    folder = analysed(colours_of(small), photometric="rgb")
    folder.expect_whole(60, (64, 72))
    assert "in colour; grey (luma) is taken" in written(folder)


def test_a_video_in_colour_is_taken_as_grey_and_says_so(run, look, tmp_path, small):
    assert run(write_avi(tmp_path / "slice.avi", colours_of(small))).status == 0
    folder = look(tmp_path / "slice.cocuyo")
    folder.expect_whole(60, (64, 72))
    assert "in colour; grey (luma) is taken" in written(folder)


@pytest.mark.parametrize(("axes", "option"), [("TCYX", "--channel"), ("TZYX", "--plane")])
def test_a_chosen_channel_or_plane_gives_what_it_gives_alone(
    analysed, run, look, tmp_path, small, axes, option
):
    other = np.flip(small, axis=2)
    tifffile.imwrite(
        tmp_path / "stack.tif", np.stack([other, small], 1), imagej=True, metadata={"axes": axes}
    )
    assert run(tmp_path / "stack.tif", option, 1).status == 0
    stack, alone = look(tmp_path / "stack.cocuyo"), analysed(small)
    assert stack.record["n_accepted"] > 0
    for name in ("traces.csv", "raster.csv", "rois.csv"):
        assert (stack.path / name).read_bytes() == (alone.path / name).read_bytes()


@pytest.mark.parametrize("name", ["slice.avi", "slice.png", "slice.h5"])
def test_a_tiff_by_another_name_is_read_as_what_it_is_and_says_so(analysed, small, name):
    folder = analysed(small, name=name)
    folder.expect_whole(60, (64, 72))
    assert f"The name ends in {name[5:]}, but the content is TIFF" in written(folder)


@pytest.mark.parametrize("name", ["célula 3 (día 1).tif", "神経 µ.tif"])
def test_names_may_have_blanks_and_any_letters(run, look, tmp_path, write_tiff, small, name):
    (tmp_path / "mis células").mkdir()
    outcome = run(write_tiff(small, name=f"mis células/{name}"), "--out", tmp_path / "aquí" / name)
    assert outcome.status == 0
    look(tmp_path / "aquí" / name).expect_whole(60, (64, 72))
    assert str(tmp_path / "aquí" / name / "report.html") in outcome.out


def test_the_folder_one_stands_in_is_a_recording(run, look, tmp_path, small, monkeypatch):
    frames = tmp_path / "frames.1"
    frames.mkdir()
    for i, frame in enumerate(small[:20]):
        tifffile.imwrite(frames / f"f{i}.tif", frame)
    monkeypatch.chdir(frames)
    assert run(".").status == 0
    look(tmp_path / "frames.1.cocuyo").expect_whole(20, (64, 72))


def test_parts_are_joined_in_natural_order(analysed, run, look, tmp_path, write_tiff, small):
    paths = [write_tiff(small[30:], name="part10.tif"), write_tiff(small[:30], name="part2.tif")]
    assert run(*paths, "--join", "--out", tmp_path / "joined").status == 0
    whole = analysed(small)
    assert (tmp_path / "joined" / "traces.csv").read_bytes() == (
        whole.path / "traces.csv"
    ).read_bytes()


def test_the_mask_of_excluded_pixels_keeps_neurons_out(analysed, tmp_path, simulated):
    everywhere = analysed(simulated.frames)
    mask = everywhere.image("labels.tif") == 1
    tifffile.imwrite(tmp_path / "mask.tif", mask.astype(np.uint8))
    folder = analysed(simulated.frames, "--exclude", tmp_path / "mask.tif", "--overwrite")
    assert not folder.image("mask.tif")[mask].any()
