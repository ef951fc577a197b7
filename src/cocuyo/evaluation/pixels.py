"""Agreement of two masks, pixel by pixel."""

from dataclasses import dataclass

import numpy as np

from cocuyo.core import BoolArray, SettingsError


def ratio(numerator: float, denominator: float) -> float:
    """Divide two counts.

    Parameters
    ----------
    numerator, denominator : float
        The counts.

    Returns
    -------
    float
        Their ratio; NaN where the denominator is 0, as nothing can then be said.
    """
    return numerator / denominator if denominator else float("nan")


@dataclass(frozen=True)
class PixelScores:
    """How well the pixels of two masks agree.

    Every score is NaN where its denominator is 0: precision without predicted pixels, recall
    without true ones, SDC and IoU without either.

    Attributes
    ----------
    tp, fp, fn : int
        Pixels in both masks, in the predicted one only, in the true one only.
    """

    tp: int
    fp: int
    fn: int

    @property
    def sdc(self) -> float:
        """Sørensen-Dice coefficient, 2 tp / (2 tp + fp + fn)."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """Intersection over union, tp / (tp + fp + fn)."""
        return ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """Share of the predicted pixels that are true."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the true pixels that are predicted."""
        return ratio(self.tp, self.tp + self.fn)


def pixel_scores(
    predicted: BoolArray, truth: BoolArray, *, ignore: BoolArray | None = None
) -> PixelScores:
    """Compare two masks pixel by pixel.

    The four scores are those of the paper's tables (Sørensen-Dice coefficient, intersection
    over union, precision, recall), over the pixels of the whole frame.

    Parameters
    ----------
    predicted, truth : ndarray of bool, shape (n_rows, n_columns)
        The masks.
    ignore : ndarray of bool, shape (n_rows, n_columns), optional
        Pixels to leave out, such as those of cells of which nothing is known.

    Returns
    -------
    PixelScores
        The scores with their counts.

    Raises
    ------
    SettingsError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> scores = pixel_scores(np.array([[True, True, False]]), np.array([[True, False, True]]))
    >>> scores.tp, scores.fp, scores.fn, scores.sdc
    (1, 1, 1, 0.5)
    """
    predicted = np.asarray(predicted, dtype=np.bool_)
    truth = np.asarray(truth, dtype=np.bool_)
    known = np.True_ if ignore is None else ~np.asarray(ignore, dtype=np.bool_)
    shapes = [predicted.shape, truth.shape]
    if ignore is not None:
        shapes.append(np.shape(ignore))
    if len(set(shapes)) > 1:
        msg = (
            f"The masks have the shapes {', '.join(map(str, shapes))} (rows, columns); "
            "they must be equal. Score masks of one field of view at one resolution."
        )
        raise SettingsError(msg)
    return PixelScores(
        tp=int(np.count_nonzero(predicted & truth & known)),
        fp=int(np.count_nonzero(predicted & ~truth & known)),
        fn=int(np.count_nonzero(~predicted & truth & known)),
    )
