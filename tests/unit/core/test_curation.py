"""Edits and the state that follows from them."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_result import make_result

from cocuyo.core import Events, Quality, Result, ResultError, SettingsError, Traces
from cocuyo.core.curation import (
    Accept,
    Activity,
    Delete,
    Draw,
    Edit,
    EventThreshold,
    Merge,
    MinScore,
    Part,
    Pixels,
    Polygon,
    Redo,
    Reject,
    Reshape,
    Split,
    Undo,
    active_edits,
    apply_edits,
    check_edit,
    curate,
    draw_shape,
    dump_edit,
    next_redo,
    next_roi_id,
    next_undo,
    parse_edit,
    shape_of,
)

RESULT = make_result()  # six ROIs in frames of 40 x 56; roi_0005 is rejected
ROIS = RESULT.rois
SQUARE = Pixels(y=(10, 10, 11, 11), x=(20, 21, 20, 21))
NEW = "roi_0007"


def _activity(result: Result, ids: tuple[str, ...], level: float) -> Activity:
    n, t = len(ids), result.n_frames
    rows = np.full((n, t), level, np.float32)
    one = np.full(n, level, np.float32)
    raster = np.zeros((n, t), np.bool_)
    raster[:, 5:9] = True
    whole = np.arange(n, dtype=np.int32)
    return Activity(
        ids,
        Traces(rows, rows, one, rows, rows, rows, one, one),
        raster,
        Events(whole, whole * 0 + 5, whole * 0 + 6, whole * 0 + 8, one),
    )


def test_a_person_outvotes_the_verifier_both_ways():
    after = curate(ROIS, [Accept(rois=("roi_0005",)), Reject(rois=("roi_0001", "roi_0002"))])
    assert after.rois.accepted.tolist() == [False, False, True, True, True, True]
    assert after.rois.reasons[4] == ""
    assert after.rois.reasons[0] == "rejected by a person"
    assert after.judged.tolist() == [True, True, False, False, True, False]
    assert after.stale.size == 0


def test_rejecting_what_was_rejected_keeps_why():
    assert curate(ROIS, [Reject(rois=("roi_0005",))]).rois.reasons[4] == ROIS.reasons[4]
    named = curate(ROIS, [Reject(rois=("roi_0005",), reason="a vessel")])
    assert named.rois.reasons[4] == "a vessel"


def test_a_merge_takes_the_place_of_its_parts():
    shape = shape_of(ROIS, ["roi_0002", "roi_0003"])
    after = curate(ROIS, [Merge(rois=("roi_0002", "roi_0003"), roi=NEW, shape=shape)])
    assert after.rois.ids == ("roi_0001", "roi_0004", "roi_0005", "roi_0006", NEW)
    assert after.source.tolist() == [0, 3, 4, 5, -1]
    assert after.redrawn.tolist() == [4]
    assert after.parents[-1] == ("roi_0002", "roi_0003")
    assert after.gone == {"roi_0002": f"merged into {NEW}", "roi_0003": f"merged into {NEW}"}
    union = np.zeros(ROIS.footprints.shape[1], np.bool_)
    for i in (1, 2):
        union[ROIS.footprints[[i]].indices] = True
    assert after.rois.footprints[[4]].indices.tolist() == np.flatnonzero(union).tolist()
    assert after.rois.footprints[[4]].data.max() == 1
    assert np.isnan(after.rois.score[4])


def test_parts_of_a_split_are_accepted_as_the_whole_was():
    parts = (Part(roi=NEW, shape=SQUARE), Part(roi="roi_0008", shape=SQUARE))
    for whole, accepted in (("roi_0001", True), ("roi_0005", False)):
        after = curate(ROIS, [Split(roi=whole, parts=parts)])
        assert after.rois.ids[-2:] == (NEW, "roi_0008")
        assert after.rois.accepted[-2:].tolist() == [accepted] * 2
        assert whole not in after.rois.ids


def test_a_drawn_roi_can_be_reshaped_and_deleted():
    edits: list[Edit] = [Draw(roi=NEW, shape=SQUARE)]
    assert curate(ROIS, edits).rois.accepted[-1]
    outline = Polygon(points=((4.5, 7.5), (4.5, 10.5), (6.5, 10.5), (6.5, 7.5)))
    edits.append(Reshape(roi=NEW, shape=outline))
    rows, columns, weights = curate(ROIS, edits).rois.pixels(6)
    assert list(zip(rows, columns, strict=True)) == list(itertools.product((5, 6), (8, 9, 10)))
    assert weights.tolist() == [1.0] * 6
    edits.append(Delete(rois=(NEW,)))
    after = curate(ROIS, edits)
    assert after.rois.ids == ROIS.ids
    assert after.gone == {NEW: "deleted"}


def test_new_shapes_are_cut_to_the_pixels_that_can_be_used():
    shape = Pixels(y=(3, 3, 3), x=(1, 2, 3), weight=(1.0, 0.4, 0.2))
    after = curate(ROIS, [Draw(roi=NEW, shape=shape)], valid=RESULT.valid)  # x < 2 is not valid
    rows, columns, weights = after.rois.pixels(6)
    assert (rows.tolist(), columns.tolist()) == ([3, 3], [2, 3])
    assert weights == pytest.approx([1.0, 0.5])


def test_the_score_judges_only_what_no_person_judged():
    scores = ROIS.score
    least = float(np.sort(scores[ROIS.accepted])[3])
    edits: list[Edit] = [Accept(rois=("roi_0001",)), MinScore(score=least)]
    after = curate(ROIS, edits)
    expected = (scores >= least) | (np.arange(6) == 0)
    assert after.rois.accepted.tolist() == expected.tolist()
    below = np.flatnonzero(~expected & ROIS.accepted)
    assert len(below) >= 2
    assert all("is below" in after.rois.reasons[i] for i in below)
    # The rejected one has a reason of shape and comes with a low score; no event never comes.
    assert ROIS.reasons[4] == "edge not sharp (0.21 < 0.35)"
    assert curate(ROIS, [MinScore(score=0)]).rois.accepted.all()


def test_the_score_does_not_accept_what_has_no_event():
    from dataclasses import replace

    silent = replace(ROIS, reasons=(*("",) * 4, "no event in its trace", ""))
    assert not curate(silent, [MinScore(score=0)]).rois.accepted[4]


def test_the_reasons_that_stand_are_those_the_pipeline_gives():
    from pathlib import Path

    from cocuyo.core.curation import STANDING_REASONS
    from cocuyo.pipeline import finish

    source = Path(finish.__file__).read_text(encoding="utf-8")
    assert all(f'"{reason}' in source for reason in STANDING_REASONS)


def test_undo_and_redo_are_edits_without_limit():
    first, second = Reject(rois=("roi_0001",)), Reject(rois=("roi_0002",))
    edits: list[Edit] = [first, second]
    states = []
    for step in (Undo(edit=second.id), Undo(edit=first.id), Redo(edit=first.id)):
        edits.append(step)
        states.append(curate(ROIS, edits).rois.accepted[:2].tolist())
    assert states == [[False, True], [True, True], [False, True]]
    assert next_undo(edits) == first.id
    assert next_redo(edits) == second.id
    edits.append(Accept(rois=("roi_0005",)))
    assert next_redo(edits) is None
    assert next_undo(edits) == edits[-1].id
    assert next_undo([]) is None


def test_each_window_undoes_its_own_edits():
    mine = Reject(rois=("roi_0001",), session="a")
    theirs = Reject(rois=("roi_0002",), session="b")
    assert next_undo([mine, theirs], session="a") == mine.id
    assert next_undo([mine, theirs]) == theirs.id


def test_an_edit_of_what_an_undo_took_away_is_skipped_and_named():
    draw, reject = Draw(roi=NEW, shape=SQUARE), Reject(rois=(NEW,))
    after = curate(ROIS, [draw, reject, Undo(edit=draw.id)])
    assert after.skipped == {reject.id: f"{NEW} is not there"}
    assert after.rois.ids == ROIS.ids


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (Accept(rois=("roi_0099",)), "roi_0099 is not there"),
        (Draw(roi="roi_0001", shape=SQUARE), "there is an ROI roi_0001 already"),
        (Draw(roi=NEW, shape=Pixels(y=(5,), x=(0,))), "covers no pixel"),
        (Draw(roi=NEW, shape=Pixels(y=(500,), x=(5,))), "covers no pixel"),
        (Merge(rois=("roi_0001", "roi_0001"), roi=NEW, shape=SQUARE), "two different"),
        (
            Split(roi="roi_0001", parts=(Part(roi=NEW, shape=SQUARE),) * 2),
            f"there is an ROI {NEW} already",
        ),
        (Undo(edit="nothing"), "There is no edit nothing to undo"),
        (Redo(edit="nothing"), "There is no edit nothing to redo"),
    ],
)
def test_what_cannot_be_done_is_refused_before_it_is_kept(edit: Edit, said: str):
    with pytest.raises(SettingsError, match=said):
        check_edit(ROIS, [], edit, valid=RESULT.valid)


def test_an_undone_edit_cannot_be_undone_twice():
    edit = Reject(rois=("roi_0001",))
    undo = Undo(edit=edit.id)
    check_edit(ROIS, [edit], undo)
    with pytest.raises(SettingsError, match="to undo"):
        check_edit(ROIS, [edit, undo], Undo(edit=edit.id))
    with pytest.raises(SettingsError, match="already"):
        check_edit(ROIS, [edit], edit)


def test_names_of_new_rois_are_never_used_again():
    draw = Draw(roi=NEW, shape=SQUARE)
    assert next_roi_id(ROIS, []) == NEW
    assert next_roi_id(ROIS, [draw, Undo(edit=draw.id)]) == "roi_0008"


EVERY_KIND: tuple[Edit, ...] = (
    Accept(rois=("roi_0001",)),
    Reject(rois=("roi_0001",), reason="é\n"),
    MinScore(score=0.25),
    Merge(rois=("a", "b"), roi="c", shape=SQUARE),
    Split(roi="a", parts=(Part(roi="b", shape=SQUARE), Part(roi="c", shape=SQUARE))),
    Draw(roi="a", shape=Polygon(points=((0, 0), (0, 2.5), (3, 1)))),
    Reshape(roi="a", shape=Pixels(y=(1,), x=(2,), weight=(0.5,))),
    Delete(rois=("a",)),
    EventThreshold(roi="a", threshold_sd=4.5),
    EventThreshold(roi="a", threshold_sd=None),
    Undo(edit="x"),
    Redo(edit="x"),
)


@pytest.mark.parametrize("edit", EVERY_KIND, ids=lambda edit: edit.kind)
def test_what_is_written_is_read_back_equal(edit: Edit):
    assert parse_edit(dump_edit(edit)) == edit


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"kind": "accept", "rois": ["a"], "version": 2}, "version 2, this cocuyo knows up to 1"),
        ({"kind": "paint", "rois": ["a"]}, "paint"),
        ({"kind": "accept", "rois": []}, "rois"),
        ({"kind": "accept", "rois": ["a"], "colour": 1}, "colour"),
        (
            {"kind": "draw", "roi": "a", "shape": {"kind": "pixels", "y": [1, 2], "x": [1]}},
            "length",
        ),
        ({"kind": "event_threshold", "roi": "a", "threshold_sd": float("nan")}, "threshold_sd"),
        (
            {"kind": "draw", "roi": "a", "shape": {"kind": "polygon", "points": [[0, 0]] * 2}},
            "points",
        ),
    ],
)
def test_what_is_no_edit_is_refused_in_one_line(content: dict[str, object], said: str):
    with pytest.raises(SettingsError, match=said) as caught:
        parse_edit(content)
    assert "\n" not in str(caught.value)


def test_a_curated_result_has_the_rows_of_its_rois():
    edits = [Reject(rois=("roi_0001",)), Delete(rois=("roi_0003",))]
    after = apply_edits(RESULT, edits)
    kept = [0, 1, 3, 4, 5]
    assert after.rois.ids == tuple(ROIS.ids[i] for i in kept)
    np.testing.assert_array_equal(after.traces.raw, RESULT.traces.raw[kept])
    np.testing.assert_array_equal(after.raster, RESULT.raster[kept])
    for new, old in enumerate(kept):
        assert (
            after.events.onset[after.events.roi == new].tolist()
            == RESULT.events.onset[RESULT.events.roi == old].tolist()
        )
    assert not after.rois.accepted[0]
    assert RESULT.rois.accepted[0]


def test_new_shapes_take_the_traces_that_were_computed_for_them():
    edits = [Draw(roi=NEW, shape=SQUARE), Reshape(roi="roi_0002", shape=SQUARE)]
    with pytest.raises(ResultError, match="roi_0002, roi_0007"):
        apply_edits(RESULT, edits)
    after = apply_edits(RESULT, edits, recomputed=_activity(RESULT, (NEW, "roi_0002"), 9.0))
    assert after.rois.ids[1] == "roi_0002"
    assert (after.traces.raw[1] == 9).all()
    assert (after.traces.raw[6] == 9).all()
    np.testing.assert_array_equal(after.traces.raw[0], RESULT.traces.raw[0])
    assert after.events.onset[after.events.roi == 1].tolist() == [5]
    assert after.rois.snr[6] == pytest.approx(1.0)


def test_a_moved_threshold_needs_its_events_anew():
    edits = [EventThreshold(roi="roi_0002", threshold_sd=6)]
    state = curate(ROIS, edits)
    assert state.stale.tolist() == [1]
    assert state.redrawn.size == 0
    with pytest.raises(ResultError, match="roi_0002"):
        apply_edits(RESULT, edits)
    after = apply_edits(RESULT, edits, recomputed=_activity(RESULT, ("roi_0002",), 2.0))
    assert after.events.onset[after.events.roi == 1].tolist() == [5]
    back = [*edits, EventThreshold(roi="roi_0002", threshold_sd=None)]
    np.testing.assert_array_equal(apply_edits(RESULT, back).raster, RESULT.raster)


def test_without_edits_a_result_is_itself():
    edit = Reject(rois=("roi_0001",))
    assert apply_edits(RESULT, []) is RESULT
    assert apply_edits(RESULT, [edit, Undo(edit=edit.id)]) is RESULT


def test_an_roi_outside_the_frame_is_never_accepted():
    from cocuyo.core import RoiSet

    masks = np.zeros((2, 4, 5), np.bool_)
    masks[0, 1, 1] = True
    rois = RoiSet.given(masks)
    with pytest.raises(SettingsError, match="no pixel in the frame"):
        check_edit(rois, [], Accept(rois=("roi_0002",)))


IDS = st.sampled_from([*ROIS.ids, "roi_0007", "roi_0008", "roi_0009"])
SHAPES = st.builds(
    lambda y, x: Pixels(y=(y, y + 1), x=(x, x)), st.integers(0, 45), st.integers(0, 60)
)
CHANGES = st.one_of(
    st.builds(lambda i: Accept(rois=(i,)), IDS),
    st.builds(lambda i: Reject(rois=(i,)), IDS),
    st.builds(lambda s: MinScore(score=s), st.floats(0, 1)),
    st.builds(lambda a, b, c, s: Merge(rois=(a, b), roi=c, shape=s), IDS, IDS, IDS, SHAPES),
    st.builds(
        lambda a, b, c, s: Split(roi=a, parts=(Part(roi=b, shape=s), Part(roi=c, shape=s))),
        IDS,
        IDS,
        IDS,
        SHAPES,
    ),
    st.builds(lambda i, s: Draw(roi=i, shape=s), IDS, SHAPES),
    st.builds(lambda i, s: Reshape(roi=i, shape=s), IDS, SHAPES),
    st.builds(lambda i: Delete(rois=(i,)), IDS),
    st.builds(lambda i, h: EventThreshold(roi=i, threshold_sd=h), IDS, st.floats(0.5, 9)),
)


def _same(a: Result, b: Result) -> bool:
    return (
        a.rois.ids == b.rois.ids
        and a.rois.reasons == b.rois.reasons
        and np.array_equal(a.rois.accepted, b.rois.accepted)
        and (a.rois.footprints != b.rois.footprints).nnz == 0
        and np.array_equal(a.raster, b.raster)
        and np.array_equal(a.events.roi, b.events.roi)
    )


def _curated(edits: list[Edit]) -> Result:
    state = curate(ROIS, edits, valid=RESULT.valid)
    stale = tuple(state.rois.ids[i] for i in state.stale)
    return apply_edits(RESULT, edits, recomputed=_activity(RESULT, stale, 3.0))


@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGES, max_size=8), CHANGES)
def test_undo_after_an_edit_changes_nothing_and_redo_brings_it_back(before: list[Edit], edit: Edit):
    undone = [*before, edit, Undo(edit=edit.id)]
    assert active_edits(undone) == active_edits(before)
    assert _same(_curated(undone), _curated(before))
    assert _same(_curated([*undone, Redo(edit=edit.id)]), _curated([*before, edit]))


@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGES, max_size=10))
def test_every_list_of_edits_has_a_state_that_can_be_saved(edits: list[Edit]):
    after = _curated(edits)
    n = len(after.rois)
    assert len(set(after.rois.ids)) == n == len(after.traces.raw) == len(after.raster)
    assert [not why for why in after.rois.reasons] == after.rois.accepted.tolist()
    assert (after.rois.area_px > 0).all()
    labels = after.rois.label_image().ravel()
    counts = np.bincount(labels, minlength=after.rois.accepted.sum() + 1)
    for label, roi in enumerate(np.flatnonzero(after.rois.accepted), start=1):
        own_pixels = after.rois.footprints[[roi]].indices  # all the last one of others, or some own
        assert counts[label] or (counts[labels[own_pixels]] == 1).all()
    assert n == 0 or after.events.roi.max(initial=0) < n
    for i in range(n):
        own = after.events.roi == i
        spans = zip(after.events.onset[own], after.events.offset[own], strict=True)
        assert all(after.raster[i, onset : offset + 1].all() for onset, offset in spans)


def test_a_shape_is_drawn_once_and_may_leave_the_frame():
    index, weight = draw_shape(Pixels(y=(0, 0, -1), x=(4, 4, 2)), (3, 5))
    assert index.tolist() == [4]
    assert weight.tolist() == [1.0]
    assert draw_shape(Polygon(points=((50, 50), (50, 60), (60, 60))), (3, 5))[0].size == 0


def test_the_union_of_unknown_rois_is_refused():
    with pytest.raises(SettingsError, match="roi_0099"):
        shape_of(ROIS, ["roi_0001", "roi_0099"])


def test_the_quality_of_an_roi_stays_with_its_shape():
    figures = Quality(*(np.arange(6, dtype=np.float32) + 10 * k for k in range(6)))
    rois = replace(ROIS, quality=figures)
    edits = [
        Delete(rois=("roi_0002",)),
        Reshape(roi="roi_0003", shape=SQUARE),
        Draw(roi=NEW, shape=SQUARE),
    ]
    after = curate(rois, edits).rois
    assert after.ids == ("roi_0001", "roi_0003", "roi_0004", "roi_0005", "roi_0006", NEW)
    expected = np.array([0, np.nan, 3, 4, 5, np.nan], "f4")
    np.testing.assert_array_equal(after.quality.skewness, expected)
    assert curate(ROIS, edits).rois.quality is None
