"""Figures that say how far an ROI and its trace can be trusted."""

from dataclasses import dataclass, fields

import numpy as np

from cocuyo.core.arrays import AnyArray, FloatArray


@dataclass(frozen=True, eq=False)
class Quality:
    """What was measured of each ROI besides its score; NaN where it is not known.

    Attributes
    ----------
    skewness : ndarray of float32, shape (n_rois,)
        Of ΔF/F₀: transients make it positive, noise alone leaves it near 0, dips make it negative.
    compactness : ndarray of float32, shape (n_rois,)
        Share of the ROI's pixels inside the circle of its area around its centre; 1 for a disc.
    agreement : ndarray of float32, shape (n_rois,)
        Correlation of the footprint with the picture of what flashes together with the trace, in
        the ROI and around it, in [-1, 1]; NaN where no frame stands out of the trace's noise.
    motion_correlation : ndarray of float32, shape (n_rois,)
        Multiple correlation of ΔF/F₀ with the shifts, in [0, 1], less what chance explains.
    edge_share : ndarray of float32, shape (n_rois,)
        Share of the ROI's border pixels that touch the frame's edge or a pixel that is out of view
        at times or excluded.
    saturated_share : ndarray of float32, shape (n_rois,)
        Share of the ROI's pixels that reach the highest value the camera gives, at any time.
    """

    skewness: FloatArray
    compactness: FloatArray
    agreement: FloatArray
    motion_correlation: FloatArray
    edge_share: FloatArray
    saturated_share: FloatArray

    def __len__(self) -> int:
        return len(self.skewness)

    @classmethod
    def unknown(cls, n_rois: int) -> "Quality":
        """Make the figures of ROIs of which nothing was measured.

        Parameters
        ----------
        n_rois : int
            Number of ROIs.

        Returns
        -------
        Quality
            NaN throughout.
        """
        return cls(*(np.full(n_rois, np.nan, np.float32) for _ in fields(cls)))

    def rows(self, index: AnyArray) -> "Quality":
        """Take the figures of some ROIs.

        Parameters
        ----------
        index : ndarray of int
            Their indices; -1 stands for one of which nothing is known.

        Returns
        -------
        Quality
            In the order of `index`.
        """
        index = np.asarray(index, np.int64)
        taken = Quality.unknown(len(index))
        known = index >= 0
        for each in fields(Quality):
            getattr(taken, each.name)[known] = getattr(self, each.name)[index[known]]
        return taken
