"""The paper's experiments: who learns from what, and how masks and marks are scored."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from cocuyo.cli import run_command_line
from cocuyo.core import Cancelled, Recording, Regions, SettingsError
from cocuyo.evaluation import pixel_scores
from cocuyo.laboratory import SIZES, LaboratoryConfig, reproduce
from cocuyo.laboratory.data import plan_takes, prepare
from cocuyo.laboratory.measure import (
    METHODS,
    REFERENCES,
    Seen,
    annotate,
    choose_thresholds,
    keep_seen,
    pool,
    score_experiment,
)
from cocuyo.laboratory.settings import PUBLISHED_TABLE_1, PUBLISHED_TABLE_2
from cocuyo.pipeline import UNLEARNED
from cocuyo.training import TRAININGS, Team
from cocuyo.training.dataset import load_example

TINY = LaboratoryConfig(
    recordings=(2, 2, 1, 1),
    n_frames=24,
    side_px=64,
    dataset_frames=30,
    base_width=2,
    unet_epochs=2,
    temporal_epochs=2,
    batch=2,
)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_published_scores_agree_with_each_other():
    for table in (PUBLISHED_TABLE_1, *PUBLISHED_TABLE_2):
        for sdc, iou, precision, recall in table.values():
            assert iou == pytest.approx(sdc / (2 - sdc), abs=0.002)
            assert sdc == pytest.approx(2 * precision * recall / (precision + recall), abs=0.003)


def test_sizes_follow_the_paper_where_they_say_so():
    full = SIZES["full"]
    assert (sum(full.recordings), len(full.recordings), full.recordings[-2:]) == (30, 7, (3, 3))
    assert (full.n_frames, full.side_px, full.dataset_frames) == (3600, 512, 1500)
    for size in SIZES.values():
        paper, own = TRAININGS["paper"], size.training
        for name in ("loss", "schedule", "learning_rate", "patience", "clip"):
            assert getattr(own.unet, name) == getattr(paper.unet, name)
            assert getattr(own.temporal, name) == getattr(paper.temporal, name)
        assert own.temporal.target == "recording mask"
        assert size.pipeline.networks.unet.base_width == size.base_width
        assert not size.pipeline.networks.temporal.contrast_input
    assert full.training.unet.epochs == full.training.temporal.epochs == 100


def test_recordings_of_an_experiment_share_their_tissue_and_experiments_do_not():
    takes = plan_takes(SIZES["standard"], seed=3)
    assert len(takes) == 21
    assert [take.experiment for take in takes if take.test] == [5, 5, 5, 6, 6, 6]
    first, second, other = takes[0], takes[1], takes[3]
    assert first.seed == second.seed != other.seed
    assert first.config == second.config.model_copy(update={"take": 0}) != other.config
    # A frame in 100 to 250 ms, and cells at the scale of the networks.
    for take in takes:
        assert 4 <= take.config.frame_rate_hz <= 10
        assert SIZES["standard"].pipeline.scale.factor(take.diameter_px) == 1


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    takes = plan_takes(TINY, seed=2)
    folder = tmp_path_factory.mktemp("data")
    return takes, prepare(takes, folder, config=TINY, seed=2, progress=lambda step: None)


def test_networks_learn_from_training_experiments_only(prepared):
    takes, data = prepared
    tests = {path.name for path, take in zip(data.recordings, takes, strict=True) if take.test}
    learning = [*data.frames_training, *data.frames_validation, *data.training, *data.validation]
    assert len(tests) == 2
    for path in learning:
        assert not any(path.name.startswith(name) for name in tests)
    assert not set(data.training) & set(data.validation)
    assert len(data.training) + len(data.validation) == 4
    assert [data.recordings[i] for i in data.held_back] == data.validation
    for path in data.frames_test:
        assert any(path.name.startswith(name) for name in tests)


def test_no_frame_trains_and_validates(prepared):
    _, data = prepared
    for training, validation in zip(data.frames_training, data.frames_validation, strict=True):
        used = {frame.tobytes() for frame in load_example(training).single_images}
        held = {frame.tobytes() for frame in load_example(validation).single_images}
        assert used
        assert held
        assert not used & held


def square(shape, top, left, side=6):
    mask = np.zeros(shape, np.bool_)
    mask[top : top + side, left : left + side] = True
    return mask


SHAPE = (40, 50)
CELLS = [square(SHAPE, 2, 2), square(SHAPE, 2, 20), square(SHAPE, 20, 2), square(SHAPE, 20, 30)]


def rows(masks):
    flat = np.array([mask.ravel() for mask in masks], np.float32)
    return sparse.csr_array(flat.reshape(len(masks), SHAPE[0] * SHAPE[1]))


def seen_with(ours, *, truth=CELLS[:2], rois=(), functional=(True, True, False, False)):
    none = np.zeros(SHAPE, np.bool_)
    union = np.logical_or.reduce([none, *truth])
    masks = dict.fromkeys(METHODS, none) | {"refined": none, "truth": union, "srname": union}
    return Seen(
        maps={name: np.where(union, 0.9, 0.1).astype(np.float32) for name in UNLEARNED},
        masks=masks | {"ours": ours},
        ignore=none,
        mean=np.zeros(SHAPE, np.float32),
        rois=rows(rois) if rois else sparse.csr_array((0, SHAPE[0] * SHAPE[1]), dtype=np.float32),
        cells=rows(CELLS),
        functional=np.array(functional),
        trace=np.zeros(5, np.float32),
        dog=np.zeros(5, np.float32),
        active=np.zeros(5, np.bool_),
        threshold=3.5,
        rate_hz=6.0,
    )


def test_masks_of_an_experiment_are_combined_by_maximum():
    first, second = seen_with(CELLS[0]), seen_with(CELLS[1])
    thresholds = dict.fromkeys(((n, r) for n in UNLEARNED for r in REFERENCES), 0.5)
    scores = {
        (row.method, row.reference): row.scores
        for row in score_experiment(0, [first, second], thresholds)
    }
    assert scores["ours", "truth"].sdc == 1
    assert scores["contrast x probability", "truth"].sdc == 1
    assert scores["max", "truth"].recall == 0
    assert ("SRNAME-like", "srname") not in scores
    assert scores["SRNAME-like", "truth"].sdc == 1


def test_pixels_of_cells_at_the_border_do_not_count_against_the_truth():
    seen = seen_with(CELLS[0] | CELLS[1] | CELLS[3])
    thresholds = dict.fromkeys(((n, r) for n in UNLEARNED for r in REFERENCES), 0.5)
    for ignore, precision in ((np.zeros(SHAPE, np.bool_), 2 / 3), (CELLS[3], 1.0)):
        found = score_experiment(0, [replace(seen, ignore=ignore)], thresholds)
        (ours,) = (r for r in found if (r.method, r.reference) == ("ours", "truth"))
        assert ours.scores.precision == pytest.approx(precision)


def test_thresholds_are_chosen_where_masks_agree_best():
    chosen = choose_thresholds([seen_with(CELLS[0])])
    for name in ("maximum", "average"):
        assert 0.1 < chosen[name, "truth"] <= 0.9


def test_pooled_scores_are_those_of_all_pixels_together():
    pairs = [(CELLS[0], CELLS[0]), (CELLS[1], CELLS[2])]
    pooled = pool(pixel_scores(one, other) for one, other in pairs)
    assert (pooled.tp, pooled.fp, pooled.fn) == (36, 36, 36)
    assert pooled.sdc == 0.5


def test_marks_are_found_by_rois_of_any_recording_each_once():
    first = seen_with(CELLS[0], rois=[CELLS[0], CELLS[3]])
    second = seen_with(CELLS[0], rois=[CELLS[0]])
    marks = annotate(0, [first, second], misses=0.0, seed=1)
    assert (len(marks.found), len(marks.missed), marks.n_functional) == (1, 1, 2)
    assert marks.recall == 0.5
    # The ROI that both have counts once; the one on a silent cell has no mark.
    assert (marks.n_rois, marks.n_unmarked, marks.n_overlooked) == (2, 1, 0)
    np.testing.assert_allclose(marks.found, [[4.5, 4.5]])


def test_an_overlooked_neuron_is_no_false_roi_of_the_method():
    seen = seen_with(CELLS[0], rois=CELLS[:2])
    marks = [annotate(0, [seen], misses=0.5, seed=seed) for seed in range(20)]
    for one in marks:
        marked = len(one.found) + len(one.missed)
        assert one.n_overlooked == one.n_unmarked == 2 - marked
    assert {len(one.found) for one in marks} == {0, 1, 2}
    assert np.isnan(next(one for one in marks if not len(one.found)).recall)


def test_what_was_seen_is_kept_as_it_was(tmp_path):
    seen = seen_with(CELLS[0], rois=CELLS[:1])
    keep_seen(tmp_path / "one.npz", lambda: seen)
    again = keep_seen(tmp_path / "one.npz", lambda: pytest.fail("looked twice"))
    for name in ("mean", "trace", "functional", "threshold", "rate_hz"):
        np.testing.assert_array_equal(getattr(again, name), getattr(seen, name))
    np.testing.assert_array_equal(again.rois.toarray(), seen.rois.toarray())
    assert again.masks.keys() == seen.masks.keys()


@pytest.fixture(scope="module")
def stopped_and_gone_on_with(tmp_path_factory):
    """A folder in which the work was stopped in the second training, then finished."""
    folder = tmp_path_factory.mktemp("paper") / "out"
    stages = []

    def stop(step):
        stages.append((step.stage, step.done))
        if (step.stage, step.done) == ("temporal network", 1):
            raise Cancelled

    with pytest.raises(Cancelled):
        reproduce(folder, config=TINY, seed=2, progress=stop)
    assert not (folder / "results.json").exists()
    again = []
    done = reproduce(
        folder, config=TINY, seed=2, progress=lambda step: again.append((step.stage, step.done))
    )
    return folder, done, again


def test_a_second_start_goes_on_where_the_first_was_stopped(stopped_and_gone_on_with):
    _, done, stages = stopped_and_gone_on_with
    assert not any(stage == "spatial network" for stage, _ in stages)
    assert [n for stage, n in stages if stage == "temporal network"] == [2]
    assert done.results["epochs"]["temporal"]["run"] == TINY.temporal_epochs
    assert done.results["size"] == "own"


def test_tables_and_figures_are_written_beside_the_published_values(stopped_and_gone_on_with):
    folder, done, _ = stopped_and_gone_on_with
    assert json.loads((folder / "results.json").read_text(encoding="utf-8")) == done.results
    for number in (2, 5, 6, 7, 8):
        assert (folder / "figures" / f"figure{number}.png").stat().st_size > 3000
    for line in (*done.results["table_1"], *done.results["table_2"]):
        tp, fp, fn = line["tp"], line["fp"], line["fn"]
        if 2 * tp + fp + fn:
            assert line["SDC"] == pytest.approx(2 * tp / (2 * tp + fp + fn), abs=1e-4)
    (ours,) = (
        line
        for line in done.results["table_2"]
        if (line["experiment"], line["method"], line["reference"]) == (2, "ours", "srname")
    )
    assert ours["published SDC"] == 0.7516
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "(0.814)" in text
    assert "contrast x probability" in text
    assert len((folder / "tables" / "table1.csv").read_text("utf-8").splitlines()) == 5


def test_a_third_start_says_the_same_and_another_seed_is_refused(stopped_and_gone_on_with):
    folder, done, _ = stopped_and_gone_on_with
    assert reproduce(folder, config=TINY, seed=2).results == done.results
    with pytest.raises(SettingsError, match="another size or seed"):
        reproduce(folder, config=TINY, seed=3)


def test_real_recordings_with_marks_are_tried(stopped_and_gone_on_with):
    folder, _, _ = stopped_and_gone_on_with
    rng = np.random.default_rng(1)
    frames = rng.normal(500, 20, (40, *SHAPE)).astype(np.uint16)
    recording = Recording.from_array(frames, frame_rate_hz=6.0, pixel_size_um=1.5, name="real")
    marked = Regions(frame_shape=SHAPE, footprints=rows(CELLS), name="marks")
    results = reproduce(folder, config=TINY, seed=2, annotated=[(recording, marked)]).results
    (line,) = results["annotated"]
    assert line["marked"] == 4
    assert 0 <= line["found"] <= 4
    assert "real:" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_folder_of_something_else_and_several_processes_are_refused(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    assert run_command_line(["paper", "--quick", "--out", str(tmp_path)]) == 1
    assert "choose another folder" in capsys.readouterr().err
    with pytest.raises(SettingsError, match="one process"):
        reproduce(tmp_path / "new", config=TINY, team=Team(rank=0, size=2))
    assert not (tmp_path / "new").exists()


def test_an_annotated_recording_without_a_rate_is_refused_before_the_work(tmp_path, capsys):
    np.save(tmp_path / "movie.npy", np.zeros((20, 30, 30), np.uint16))
    np.save(tmp_path / "labels.npy", np.zeros((30, 30), np.uint16))
    arguments = ["paper", "--quick", "--out", str(tmp_path / "out"), "--annotated"]
    found = run_command_line(
        [*arguments, str(tmp_path / "movie.npy"), str(tmp_path / "labels.npy")]
    )
    assert found == 1
    assert "--frame-rate" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
