from cocuyo.core import CocuyoError as CocuyoError
from cocuyo.core import Recording as Recording
from cocuyo.core import Result as Result
from cocuyo.core import RoiSet as RoiSet
from cocuyo.evaluation import evaluate as evaluate
from cocuyo.io import open_recording as open_recording
from cocuyo.io import read_rois as read_rois
from cocuyo.pipeline import extract as extract
from cocuyo.pipeline import segment as segment
from cocuyo.pipeline import segment_experiment as segment_experiment
from cocuyo.simulation import simulate as simulate

__version__: str
