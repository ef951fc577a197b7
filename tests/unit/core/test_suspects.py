"""Which ROIs a person should look at first, and why."""

from dataclasses import fields, replace

import numpy as np
import pytest
from synthetic_result import make_result

from cocuyo.core import Quality, RoiSet, acceptance_limit, find_suspects, overlaps, score_decides


def well(n):
    """Figures that give no reason."""
    ones = np.ones(n, np.float32)
    return Quality(2 * ones, ones, ones, 0 * ones, 0 * ones, 0 * ones)


def rois(scores=(0.99,), *, accepted=None, reasons=None, snr=20.0, quality=None, masks=None):
    n = len(scores)
    if masks is None:
        masks = np.zeros((n, 4, 4 * n), np.bool_)
        for i in range(n):
            masks[i, 1:3, 4 * i : 4 * i + 2] = True
    scores = np.array(scores, np.float32)
    accepted = scores >= 0.5 if accepted is None else np.array(accepted)
    made = RoiSet.given(masks, accepted=accepted)
    return replace(
        made,
        score=scores,
        snr=np.full(n, snr, np.float32),
        quality=well(n) if quality is None else quality,
    )


def look(these, n_events=None, **given):
    n_events = np.full(len(these), 5) if n_events is None else np.array(n_events)
    return find_suspects(these, n_events, **({"min_score": 0.5} | given))


def test_a_sure_roi_gives_no_reason_and_still_has_a_place_in_the_order():
    (one,) = look(rois())
    assert one.reasons == ()
    assert 0 < one.value < 0.1


def test_the_nearer_the_score_is_to_the_limit_the_more_suspect_is_an_roi_on_either_side():
    found = look(rois((0.51, 0.7, 0.99, 0.49, 0.3, 0.02)))
    values = [one.value for one in found]
    assert values[0] > values[1] > values[2]
    assert values[3] > values[4] > values[5]
    assert found[0].reasons == ("score 0.51 is near the limit of 0.50",)
    assert found[3].reasons == ("rejected, but its score 0.49 is near the limit of 0.50",)
    assert found[2].reasons == found[5].reasons == ()


def test_what_was_rejected_for_another_reason_than_its_score_is_no_suspect():
    assert look(rois((0.9,), accepted=(False,))) == [None]


@pytest.mark.parametrize(
    ("figure", "value", "words"),
    [
        ("motion_correlation", 0.7, "follows the shifts (correlation 0.70)"),
        ("agreement", 0.2, "another shape than its outline (agreement 0.20)"),
        ("skewness", -0.4, "falls more than it rises"),
        ("saturated_share", 0.3, "30 % of its pixels reach the camera's limit"),
        ("compactness", 0.4, "not compact (0.40)"),
        ("edge_share", 0.25, "25 % of its border is the edge"),
    ],
)
def test_each_figure_is_a_reason_in_words_and_makes_an_accepted_roi_more_suspect(
    figure, value, words
):
    usual = look(rois())[0]
    odd = replace(well(1), **{figure: np.array([value], np.float32)})
    (found,) = look(rois(quality=odd))
    assert len(found.reasons) == 1
    assert words in found.reasons[0]
    assert found.value > usual.value + 0.2
    assert look(rois((0.02,), quality=odd))[0].reasons == ()  # of a rejected one only the score


def test_a_low_peak_is_a_reason():
    assert "only 4.0 times its noise" in look(rois(snr=4.0))[0].reasons[0]


def test_a_single_event_is_a_reason_unless_that_is_usual_in_the_recording():
    four = rois((0.99,) * 4)
    assert look(four, [1, 5, 5, 5])[0].reasons == ("it has a single event",)
    assert look(four, [1, 1, 1, 5])[0].reasons == ()


def test_sharing_pixels_with_an_accepted_roi_is_a_reason_that_names_it():
    masks = np.zeros((3, 4, 12), np.bool_)
    masks[0, 1:3, 0:4], masks[1, 1:3, 2:8], masks[2, 1:3, 7:9] = True, True, True
    these = rois((0.99, 0.99, 0.1), masks=masks)
    share, partner = overlaps(these)
    np.testing.assert_allclose(share, [0.5, 4 / 12, 0.5])
    assert partner.tolist() == [1, 0, 1]
    found = look(these)
    assert found[0].reasons == ("shares 50 % of its pixels with roi_0002",)
    assert found[1].reasons == ("shares 33 % of its pixels with roi_0001",)


def test_several_reasons_weigh_more_than_the_weightiest_which_stands_first():
    odd = replace(
        well(2),
        motion_correlation=np.array([0.6, 0.6], np.float32),
        saturated_share=np.array([0.0, 0.5], np.float32),
    )
    one, both = look(rois((0.99, 0.99), quality=odd))
    assert both.value > one.value
    assert [reason.split()[0] for reason in both.reasons] == ["its", "50"]


def test_figures_that_are_not_known_are_no_reason():
    none = replace(rois(), quality=None, snr=np.array([np.nan], np.float32))
    assert look(none, [-1])[0].reasons == ()


def test_without_scores_an_roi_is_a_suspect_for_a_reason_only():
    given = replace(rois((np.nan,) * 2, accepted=(True, True)), snr=np.array([20.0, 3.0], "f4"))
    first, second = look(given, min_score=None)
    assert first is None
    assert "3.0 times" in second.reasons[0]


def test_the_limit_is_the_setting_of_the_verifier_or_the_least_score():
    result = make_result()
    assert not score_decides(result)
    assert acceptance_limit(result) == pytest.approx(result.rois.score[result.rois.accepted].min())
    settings = {"verification": {"min_score": 0.6}}
    judged = replace(result, info=replace(result.info, settings=settings))
    assert score_decides(judged)
    assert acceptance_limit(judged) == 0.6
    for info in (replace(judged.info, task="extract"), replace(judged.info, preset="paper")):
        assert not score_decides(replace(judged, info=info))


def test_where_the_score_does_not_decide_it_only_orders():
    near, far = look(rois((0.51, 0.9)), score_decides=False)
    assert near.reasons == far.reasons == ()
    assert near.value > far.value


def test_no_roi_is_no_suspect():
    assert look(RoiSet.empty((5, 6))) == []


def test_figures_of_rows_are_theirs_and_not_known_where_there_is_none():
    values = [np.arange(3, dtype=np.float32) + 10 * k for k in range(6)]
    taken = Quality(*values).rows(np.array([2, -1, 0]))
    assert len(taken) == 3
    for k, each in enumerate(fields(Quality)):
        np.testing.assert_array_equal(
            getattr(taken, each.name), np.array([10 * k + 2, np.nan, 10 * k], "f4")
        )
