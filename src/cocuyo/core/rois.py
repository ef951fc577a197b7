"""Regions of interest: candidate neurons, accepted or rejected."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from cocuyo.core.arrays import AnyArray, BoolArray, FloatArray, LabelArray
from cocuyo.core.errors import SettingsError
from cocuyo.core.quality import Quality

NO_PIXEL = "has no pixel in the frame"
"""Reason of a given ROI that lies outside the frame."""


@dataclass(frozen=True, eq=False)
class RoiSet:
    """Candidate neurons of one field of view.

    Attributes
    ----------
    footprints : scipy.sparse.csr_array of float32, shape (n_rois, n_rows * n_columns)
        Weights in (0, 1], largest 1 in each row; the pixels with a weight are the ROI.
        Every row has at least one pixel, but for given ROIs that lie outside the frame or have
        no area; they are never accepted.
    frame_shape : tuple of int
        Number of rows and columns.
    ids : tuple of str
        Permanent ids such as ``"roi_0001"``; they survive curation.
    accepted : ndarray of bool, shape (n_rois,)
        Whether each candidate is a neuron in the result.
    reasons : tuple of str
        Why a candidate was rejected, in words; empty for accepted ones.
    score : ndarray of float32, shape (n_rois,)
        Confidence that the candidate is a functional neuron, in [0, 1]: the verifier's, or the
        mean of the map over the ROI where there is no verifier. NaN for given ROIs.
    snr : ndarray of float32, shape (n_rois,)
        Height of the largest transient over the noise of the corrected trace.
    quality : Quality or None
        Further figures; None where nothing was measured.
    """

    footprints: sparse.csr_array
    frame_shape: tuple[int, int]
    ids: tuple[str, ...]
    accepted: BoolArray
    reasons: tuple[str, ...]
    score: FloatArray
    snr: FloatArray
    quality: Quality | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def empty(cls, frame_shape: tuple[int, int]) -> "RoiSet":
        """Make a set without ROIs.

        Parameters
        ----------
        frame_shape : tuple of int
            Number of rows and columns.

        Returns
        -------
        RoiSet
            A set of length 0.
        """
        nothing = np.zeros(0, np.float32)
        return cls(
            sparse.csr_array(np.zeros((0, frame_shape[0] * frame_shape[1]), np.float32)),
            frame_shape,
            (),
            np.zeros(0, np.bool_),
            (),
            nothing,
            nothing,
        )

    @classmethod
    def given(
        cls,
        footprints: sparse.csr_array | AnyArray,
        frame_shape: tuple[int, int] | None = None,
        *,
        ids: Sequence[str] | None = None,
        accepted: BoolArray | None = None,
        reasons: Sequence[str] | None = None,
    ) -> "RoiSet":
        """Make a set of ROIs that nobody judged: drawn by hand, or of another program.

        Parameters
        ----------
        footprints : csr_array (n_rois, n_rows * n_columns) or array (n_rois, n_rows, n_columns)
            Masks or weights; each ROI is brought to a largest weight of 1.
        frame_shape : tuple of int, optional
            Number of rows and columns; needed with a sparse array.
        ids : sequence of str, optional
            Names, each once; ``roi_0001``, ``roi_0002``, ... if None.
        accepted : ndarray of bool, shape (n_rois,), optional
            Which are neurons; all with a pixel if None. One without pixels never is.
        reasons : sequence of str, optional
            Why one is rejected.

        Returns
        -------
        RoiSet
            The ROIs in their order; score and SNR are NaN.

        Raises
        ------
        SettingsError
            If shapes do not fit, a weight is negative or not finite, or an id is there twice.

        Examples
        --------
        >>> import numpy as np
        >>> masks = np.zeros((2, 3, 4), np.bool_)
        >>> masks[0, 1, 1:3] = masks[1, 2, 0] = True
        >>> rois = RoiSet.given(masks)
        >>> rois.ids, rois.area_px.tolist()
        (('roi_0001', 'roi_0002'), [2, 1])
        """
        if isinstance(footprints, np.ndarray):
            if footprints.ndim != 3:
                msg = f"Footprints have shape {footprints.shape}; give them as (n_rois, Y, X)."
                raise SettingsError(msg)
            frame_shape = (int(footprints.shape[1]), int(footprints.shape[2]))
            footprints = sparse.csr_array(footprints.reshape(len(footprints), -1))
        matrix: sparse.csr_array = footprints.astype(np.float32)
        n_rois, n_pixels = matrix.shape
        if frame_shape is None or n_pixels != frame_shape[0] * frame_shape[1]:
            msg = f"Footprints have {n_pixels} pixels, which is no frame of {frame_shape}."
            raise SettingsError(msg)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        if not (np.isfinite(matrix.data).all() and (matrix.data > 0).all()):
            msg = "Footprints hold negative weights or ones that are not finite; give 0 to 1."
            raise SettingsError(msg)
        if n_rois:
            highest = np.asarray(matrix.max(axis=1).toarray(), np.float32).ravel()
            matrix.data /= np.repeat(highest, np.diff(matrix.indptr))
        names = tuple(f"roi_{i + 1:04d}" for i in range(n_rois)) if ids is None else tuple(ids)
        why = ("",) * n_rois if reasons is None else tuple(reasons)
        if len(names) != n_rois or len(set(names)) != n_rois or len(why) != n_rois:
            msg = f"{n_rois} ROIs need as many different ids and as many reasons."
            raise SettingsError(msg)
        there = np.diff(matrix.indptr) > 0
        chosen = there if accepted is None else np.asarray(accepted, np.bool_)
        if chosen.shape != there.shape:
            msg = (
                f"accepted has shape {chosen.shape}; it needs one value for each of {n_rois} ROIs."
            )
            raise SettingsError(msg)
        why = tuple(
            reason if reason or pixels else NO_PIXEL
            for reason, pixels in zip(why, there, strict=True)
        )
        unknown = np.full(n_rois, np.nan, np.float32)
        shape = (frame_shape[0], frame_shape[1])
        return cls(matrix, shape, names, there & chosen, why, unknown, unknown)

    @cached_property
    def labels(self) -> LabelArray:
        """Label of each ROI: 1, 2, ... for accepted ones in order, 0 for rejected ones."""
        return np.where(self.accepted, np.cumsum(self.accepted), 0).astype(np.int32)

    @cached_property
    def area_px(self) -> LabelArray:
        """Number of pixels of each ROI."""
        return np.diff(self.footprints.indptr).astype(np.int32)

    @cached_property
    def centroids(self) -> FloatArray:
        """Weighted centre of each ROI, (y, x) in pixels, shape (n_rois, 2); NaN without pixels."""
        if len(self) == 0:
            return np.zeros((0, 2), np.float32)
        columns = self.frame_shape[1]
        index = np.arange(self.footprints.shape[1], dtype=np.float64)
        total = np.asarray(self.footprints.sum(axis=1), dtype=np.float64).ravel()
        total[total == 0] = np.nan
        y = self.footprints @ (index // columns) / total
        x = self.footprints @ (index % columns) / total
        return np.column_stack([y, x]).astype(np.float32)

    def pixels(self, roi: int) -> tuple[LabelArray, LabelArray, FloatArray]:
        """Pixels of one ROI.

        Parameters
        ----------
        roi : int
            Index of the ROI.

        Returns
        -------
        rows, columns : ndarray of int32
            Coordinates of the pixels.
        weights : ndarray of float32
            Footprint weights of these pixels.
        """
        span = slice(self.footprints.indptr[roi], self.footprints.indptr[roi + 1])
        flat = np.asarray(self.footprints.indices[span])
        columns = self.frame_shape[1]
        return (
            (flat // columns).astype(np.int32),
            (flat % columns).astype(np.int32),
            np.asarray(self.footprints.data[span], dtype=np.float32),
        )

    def mask(self) -> BoolArray:
        """Union of the accepted ROIs, shape (n_rows, n_columns)."""
        flat = np.zeros(self.footprints.shape[1], np.bool_)
        flat[self.footprints[np.flatnonzero(self.accepted)].indices] = True
        return flat.reshape(self.frame_shape)

    def label_image(self) -> LabelArray:
        """Draw the accepted ROIs as an image of labels.

        Returns
        -------
        ndarray of int32, shape (n_rows, n_columns)
            0 outside, 1..n in the accepted ROIs. A pixel of several ROIs goes to the
            larger weight; an ROI that would keep no pixel keeps its heaviest that another can
            spare, and has none where each is the only one of another ROI.
        """
        size = self.footprints.shape[1]
        image = np.zeros(size, np.int32)
        best = np.zeros(size, np.float32)
        accepted = np.flatnonzero(self.accepted)
        spans = []
        for label, roi in enumerate(accepted, start=1):
            span = slice(self.footprints.indptr[roi], self.footprints.indptr[roi + 1])
            pixels = np.asarray(self.footprints.indices[span])
            weights = np.asarray(self.footprints.data[span], dtype=np.float32)
            wins = weights > best[pixels]
            image[pixels[wins]] = label
            best[pixels[wins]] = weights[wins]
            spans.append((pixels, weights))
        counts = np.bincount(image, minlength=len(accepted) + 1)
        for label, (pixels, weights) in enumerate(spans, start=1):
            if counts[label] == 0:
                order = np.argsort(-weights, kind="stable")
                free = [p for p in pixels[order] if image[p] == 0 or counts[image[p]] > 1]
                if free:
                    counts[image[free[0]]] -= 1
                    image[free[0]] = label
                    counts[label] = 1
        return image.reshape(self.frame_shape)
