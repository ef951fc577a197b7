"""The paper's experiments on simulated recordings. Needs torch."""

from cocuyo.laboratory.paper import Reproduction, reproduce
from cocuyo.laboratory.settings import SIZES, LaboratoryConfig, SizeName

__all__ = ["SIZES", "LaboratoryConfig", "Reproduction", "SizeName", "reproduce"]
