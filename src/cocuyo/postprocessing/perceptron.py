"""Small multilayer perceptrons that judge described things, such as candidates."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Self

import numpy as np

from cocuyo.core import FloatArray, ModelError


@dataclass(frozen=True, eq=False)
class Perceptron:
    """A perceptron on standardised features; a kind of judge names them.

    Attributes
    ----------
    mean, scale : ndarray of float32, shape (n_features,)
        Standardisation of the features.
    weights, biases : tuple of ndarray of float32
        Layers; ReLU between them, a sigmoid after the last.
    """

    mean: FloatArray
    scale: FloatArray
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]

    inputs: ClassVar[tuple[str, ...]] = ()
    """Names of the features."""
    role: ClassVar[str] = "perceptron"
    """What it is called in messages."""

    def score(self, features: FloatArray) -> FloatArray:
        """Score what is described.

        Parameters
        ----------
        features : ndarray of float32, shape (n, n_features)
            One row each, in the order of `inputs`.

        Returns
        -------
        ndarray of float32, shape (n,)
            In [0, 1].
        """
        hidden = np.clip((features - self.mean) / self.scale, -6, 6)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = hidden @ weight.T + bias
            if layer < len(self.weights) - 1:
                hidden = np.maximum(hidden, 0)
        return np.asarray(1 / (1 + np.exp(-np.clip(hidden[:, 0], -30, 30))), np.float32)

    def tensors(self) -> dict[str, FloatArray]:
        """Return everything as named arrays, for a weights file."""
        named = {"mean": self.mean, "scale": self.scale}
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            named |= {f"weight_{i}": weight, f"bias_{i}": bias}
        return named

    @classmethod
    def from_tensors(cls, tensors: dict[str, FloatArray]) -> Self:
        """Rebuild a perceptron from the arrays of `tensors`.

        Parameters
        ----------
        tensors : dict of ndarray
            Named arrays.

        Returns
        -------
        Perceptron
            Of the class that is asked.

        Raises
        ------
        ModelError
            If an array is missing, does not fit the others, or was made for other features.
        """
        n_layers = sum(name.startswith("weight_") for name in tensors)
        try:
            built = cls(
                tensors["mean"],
                tensors["scale"],
                tuple(tensors[f"weight_{i}"] for i in range(n_layers)),
                tuple(tensors[f"bias_{i}"] for i in range(n_layers)),
            )
        except KeyError as error:
            msg = f"The {cls.role} lacks the array {error}; the model folder is incomplete."
            raise ModelError(msg) from error
        n_features = len(cls.inputs)
        if built.mean.shape != (n_features,) or n_layers == 0:
            msg = (
                f"The {cls.role} was made for {built.mean.size} features; this version has "
                f"{n_features}. Train it again."
            )
            raise ModelError(msg)
        widths = [n_features, *(bias.size for bias in built.biases)]
        shapes = [weight.shape for weight in built.weights]
        fits = built.scale.shape == built.mean.shape and widths[-1] == 1
        if not fits or shapes != [(b, a) for a, b in pairwise(widths)]:
            msg = (
                f"The {cls.role}'s layers {shapes} do not lead from {n_features} features to one "
                "score; the model folder is damaged. Train it again."
            )
            raise ModelError(msg)
        arrays = (built.mean, built.scale, *built.weights, *built.biases)
        if not all(np.isfinite(array).all() for array in arrays) or not (built.scale > 0).all():
            msg = (
                f"The {cls.role} holds numbers that are not finite, or a scale that is not above "
                "0; the model folder is damaged. Train it again."
            )
            raise ModelError(msg)
        return built
