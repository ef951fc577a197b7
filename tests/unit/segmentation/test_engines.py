"""Engines: stateless, and clear about what a model folder lacks."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from cocuyo.core import MissingExtraError, ModelError, SettingsError
from cocuyo.segmentation import (
    NetworkConfig,
    OutlineConfig,
    TemporalConfig,
    UNetConfig,
    load_engine,
)
from cocuyo.segmentation.engine import (
    GRAPHS,
    INT8_GRAPH,
    computes_in_bf16,
    computes_in_int8,
    processor_formats,
)
from cocuyo.segmentation.weights import (
    OUTLINE_WEIGHTS,
    WEIGHTS,
    load_networks,
    load_outline_network,
    save_networks,
    save_outline_network,
)

CONFIG = NetworkConfig(
    unet=UNetConfig(base_width=4, n_levels=1, aspp_rates=(1, 2)),
    temporal=TemporalConfig(hidden=4, kernel=5),
)
WITH_OUTLINE = CONFIG.model_copy(update={"outline": OutlineConfig(base_width=4)})
OTHER = NetworkConfig(unet=CONFIG.unet, temporal=TemporalConfig(hidden=5))
SHAPE = (29, 35)
ENGINES = ["openvino", "torch"]


@pytest.fixture
def folder(tmp_path, folder_of):
    """A complete folder that the test may damage."""
    return shutil.copytree(folder_of(CONFIG), tmp_path / "model")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def load(folder, engine="openvino", config=CONFIG):
    return load_engine(
        folder, config, frame_shape=SHAPE, engine=engine, precision="f32", n_threads=1
    )


def image_of(seed):
    image = np.random.default_rng(seed).random(SHAPE, np.float32)
    image.setflags(write=False)
    return image


@pytest.fixture(params=ENGINES)
def engine(request, folder_of, no_gpu):
    return load(folder_of(CONFIG), request.param)


def test_an_engine_gives_the_same_for_the_same_state_whatever_came_between(engine):
    state = engine.step(image_of(0), image_of(1), engine.start())
    before = engine.step(image_of(2), image_of(3), state)
    classified = engine.classify(before)
    segmented = engine.segment(image_of(4))
    for seed in range(5, 8):  # another recording passes through
        engine.segment(image_of(seed))
        engine.classify(engine.step(image_of(seed), image_of(seed), before))
    after = engine.step(image_of(2), image_of(3), state)
    np.testing.assert_array_equal(after.hidden, before.hidden)
    np.testing.assert_array_equal(after.maximum, before.maximum)
    np.testing.assert_array_equal(engine.classify(after), classified)
    np.testing.assert_array_equal(engine.segment(image_of(4)), segmented)


def test_what_an_engine_returned_does_not_change_later(engine):
    state = engine.step(image_of(0), image_of(1), engine.start())
    returned = [state.hidden, state.maximum, engine.segment(image_of(2)), engine.classify(state)]
    copies = [array.copy() for array in returned]
    engine.segment(image_of(3))
    engine.classify(engine.step(image_of(4), image_of(5), state))
    for array, copy in zip(returned, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_each_start_is_fresh_and_before_every_step(engine):
    engine.step(image_of(0), image_of(1), engine.start())
    start = engine.start()
    assert start.hidden.shape == start.maximum.shape == (1, 4, 15, 18)
    assert not start.hidden.any()
    assert (start.maximum == -1).all()


def test_without_a_gpu_openvino_is_taken(folder_of, no_gpu):
    assert load(folder_of(CONFIG), "auto").name == "openvino"


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_missing_graph_is_named(folder, graph):
    (folder / f"{graph}.xml").unlink()
    with pytest.raises(ModelError, match=rf"has no {graph}\.xml; .*complete model folder"):
        load(folder)


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_graph_without_its_weights_is_named(folder, graph):
    (folder / f"{graph}.bin").unlink()
    with pytest.raises(ModelError, match=rf"{graph}\.xml \(with its \.bin\)"):
        load(folder)


def test_graphs_of_other_settings_are_refused(folder):
    with pytest.raises(ModelError, match=r"does not fit the settings in model\.json"):
        load(folder, config=OTHER)


def test_missing_weights_are_named(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=f"has no {WEIGHTS}"):
        load(folder, "torch")


def test_weights_cut_short_are_refused(folder):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=f"{WEIGHTS} cannot be read"):
        load(folder, "torch")


def test_weights_of_other_settings_are_refused_in_one_line(folder):
    with pytest.raises(ModelError, match=r"does not fit the settings in model\.json") as caught:
        load_networks(folder, OTHER)
    assert "\n" not in str(caught.value)


def test_openvino_needs_no_torch(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    engine = load(folder, "auto")
    assert engine.name == "openvino"
    assert engine.segment(image_of(0)).shape == SHAPE


def test_the_torch_engine_without_torch_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r'pip install "cocuyo\[train\]"'):
        load(folder, "torch")


@pytest.fixture
def no_jaxtyping(monkeypatch):
    """Torch alone, as after `pip install torch`: the networks were never imported."""
    monkeypatch.setitem(sys.modules, "jaxtyping", None)
    for module in ("networks", "weights"):
        monkeypatch.delitem(sys.modules, f"cocuyo.segmentation.{module}")


def test_torch_without_the_rest_of_the_extra_says_what_to_install(folder, no_jaxtyping):
    with pytest.raises(MissingExtraError, match=r'pip install "cocuyo\[train\]".*jaxtyping'):
        load(folder, "torch")


def test_a_gpu_is_not_taken_without_the_rest_of_the_extra(folder, no_jaxtyping, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert load(folder, "auto").name == "openvino"


def test_weights_that_are_not_finite_are_not_written(tmp_path, networks_of):
    unet, temporal = networks_of(CONFIG)
    with torch.no_grad():
        temporal.convolution.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match="not finite; train again"):
        save_networks(tmp_path, unet, temporal, CONFIG)
    assert list(tmp_path.iterdir()) == []


SAVE_AND_LOAD = """
import pathlib, sys
from openvino_telemetry.utils.sender import TelemetrySender

reports = []
TelemetrySender.send = lambda self, backend, message: reports.append(message)
from cocuyo.segmentation import NetworkConfig, load_engine
from cocuyo.segmentation.networks import TemporalNetwork, UNet
from cocuyo.segmentation.weights import save_networks

config = NetworkConfig.model_validate_json(sys.argv[1])
folder = pathlib.Path.cwd()
save_networks(folder, UNet(config.unet), TemporalNetwork(config.temporal), config)
load_engine(folder, config, frame_shape=(16, 16), engine="openvino")
sys.exit(len(reports))
"""


def test_openvino_reports_to_nobody_that_it_is_used(tmp_path):
    # In a process of its own: OpenVINO reports its import. Nothing says that this is CI, where
    # it reports nothing anyway; the home is one in which nobody was asked.
    kept = {"PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT"}
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    environment = {name: value for name, value in os.environ.items() if name in kept}
    done = subprocess.run(
        [sys.executable, "-c", SAVE_AND_LOAD, CONFIG.model_dump_json()],
        env=environment | {"HOME": str(home), "USERPROFILE": str(home)},
        cwd=work,
        check=False,
    )
    assert done.returncode == 0
    assert list(home.iterdir()) == []


LOAD_AUTO = """
import pathlib, sys
from cocuyo.segmentation import NetworkConfig, engine, load_engine

engine._gpu_driver_present = lambda: False
config = NetworkConfig.model_validate_json(sys.argv[1])
load_engine(pathlib.Path(sys.argv[2]), config, frame_shape=(16, 16), engine="auto")
sys.exit("torch" in sys.modules)
"""


def test_without_a_gpu_torch_is_not_loaded(folder_of):
    words = [sys.executable, "-c", LOAD_AUTO, CONFIG.model_dump_json(), folder_of(CONFIG)]
    assert subprocess.run(words, check=False).returncode == 0


RELEASE_ELSEWHERE = """
import os, pathlib, signal, sys, threading
from cocuyo.segmentation import NetworkConfig, load_engine

config = NetworkConfig.model_validate_json(sys.argv[1])
engines = [load_engine(pathlib.Path(sys.argv[2]), config, frame_shape=(16, 16), engine="openvino")]
releasing = threading.Thread(target=engines.clear)
releasing.start()
releasing.join()
signal.signal(signal.SIGINT, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals of this kind.")
def test_ctrl_c_is_heard_after_an_engine_was_released_in_another_thread(folder_of):
    done = subprocess.run(
        [sys.executable, "-c", RELEASE_ELSEWHERE, CONFIG.model_dump_json(), folder_of(CONFIG)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "heard\n")


def views_of(n):
    return np.random.default_rng(n).random((n, 3, 12, 12), np.float32)


def test_both_engines_draw_the_same_outlines(folder_of, no_gpu):
    folder = folder_of(WITH_OUTLINE)
    drawn = {name: load(folder, name, WITH_OUTLINE).outline(views_of(5)) for name in ENGINES}
    for ours, reference in zip(drawn["openvino"], drawn["torch"], strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-4)
    outlines, scores = drawn["openvino"]
    assert outlines.shape == (5, 12, 12)
    assert scores.shape == (5,)
    assert np.ptp(scores) > 0
    assert 0 < outlines.min() < outlines.max() < 1


@pytest.mark.parametrize("name", ENGINES)
def test_a_candidate_is_drawn_alike_in_whatever_company(name, folder_of, no_gpu):
    engine = load(folder_of(WITH_OUTLINE), name, WITH_OUTLINE)
    views = views_of(70)
    together = engine.outline(views)
    for i in (0, 31, 32, 69):
        alone = engine.outline(views[i : i + 1])
        np.testing.assert_allclose(alone[0][0], together[0][i], atol=1e-5)
        np.testing.assert_allclose(alone[1][0], together[1][i], atol=1e-4)
    assert [len(part) for part in engine.outline(views[:0])] == [0, 0]


def test_a_missing_outline_network_is_named(folder):
    with pytest.raises(ModelError, match=r"has no outline\.xml; .*complete model folder"):
        load(folder, config=WITH_OUTLINE)
    with pytest.raises(ModelError, match=f"has no {OUTLINE_WEIGHTS}"):
        load(folder, "torch", WITH_OUTLINE)


def test_outline_weights_of_another_width_are_refused(folder_of):
    with pytest.raises(ModelError, match=r"does not fit the settings in model\.json"):
        load_outline_network(folder_of(WITH_OUTLINE), OutlineConfig(base_width=5))


def test_outline_weights_that_are_not_finite_are_not_written(folder_of, tmp_path):
    network = load_outline_network(folder_of(WITH_OUTLINE), WITH_OUTLINE.outline)
    with torch.no_grad():
        network.head.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="not finite"):
        save_outline_network(tmp_path, network, view_side=12)
    assert not list(tmp_path.iterdir())


# --- Number formats ----------------------------------------------------------------------------

FORMATS = "cocuyo.segmentation.engine.processor_formats"


@pytest.fixture
def processor(monkeypatch, no_gpu):
    """Let the processor compute in some formats."""

    def use(*formats):
        monkeypatch.setattr(FORMATS, lambda: (*formats, "f32"))
        monkeypatch.setattr(
            "cocuyo.segmentation.engine.computes_in_bf16", lambda: "bf16" in formats
        )

    return use


@pytest.fixture
def with_int8(folder, networks_of, tmp_path):
    """A folder whose int8 graph is another network, so that it is told from the usual one."""
    other = tmp_path / "other"
    other.mkdir()
    save_networks(other, *networks_of(CONFIG, seed=1), CONFIG)
    for end in ("xml", "bin"):
        shutil.copy(other / f"unet.{end}", folder / f"{INT8_GRAPH}.{end}")
    return folder


def load_in(folder, precision, formats=("int8", "bf16", "f32"), **options):
    return load_engine(
        folder,
        CONFIG,
        frame_shape=SHAPE,
        precision=precision,
        formats=formats,
        n_threads=1,
        **options,
    )


@pytest.mark.parametrize(
    ("has", "allowed", "expected"),
    [
        ((), ("int8", "bf16", "f32"), "f32"),
        (("int8",), ("int8", "bf16", "f32"), "int8+f32"),
        (("int8",), ("bf16", "f32"), "f32"),
        (("int8",), ("bf16", "int8", "f32"), "int8+f32"),
        (("int8",), ("f32", "int8"), "f32"),
        (("int8",), (), "f32"),
    ],
)
def test_auto_is_the_first_format_of_the_model_that_the_processor_computes_in(
    has, allowed, expected, with_int8, processor
):
    processor(*has)
    assert load_in(with_int8, "auto", allowed).precision == expected


def test_a_model_that_nobody_quantised_never_runs_in_int8(with_int8, processor):
    processor("int8")
    engine = load_engine(with_int8, CONFIG, frame_shape=SHAPE, n_threads=1)
    assert engine.precision == "f32"


def test_int8_takes_its_own_graph_of_the_spatial_network_alone(with_int8, processor):
    processor("int8")
    ours, reference = load_in(with_int8, "int8"), load_in(with_int8, "f32")
    assert (ours.precision, reference.precision) == ("int8+f32", "f32")
    assert np.abs(ours.segment(image_of(0)) - reference.segment(image_of(0))).max() > 1e-3
    states = [e.step(image_of(1), image_of(2), e.start()) for e in (ours, reference)]
    np.testing.assert_array_equal(states[0].hidden, states[1].hidden)
    np.testing.assert_array_equal(ours.classify(states[0]), reference.classify(states[1]))


def test_the_rest_beside_int8_is_in_bf16_where_the_processor_has_it(with_int8, processor):
    if not computes_in_bf16():
        pytest.skip("OpenVINO refuses bf16 on processors without it")
    processor("int8", "bf16")
    assert load_in(with_int8, "auto").precision == "int8+bf16"


def test_an_int8_graph_that_is_missing_is_named(folder, processor):
    processor("int8")
    with pytest.raises(ModelError, match=rf"has no {INT8_GRAPH}\.xml; .*complete model folder"):
        load_in(folder, "auto")


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_a_format_that_the_model_may_not_run_in_is_refused(precision, with_int8, processor):
    processor("int8", "bf16")
    with pytest.raises(SettingsError, match=f"may not run in {precision}.*auto or f32") as caught:
        load_in(with_int8, precision, ("f32",))
    assert ("cocuyo train quantise" in str(caught.value)) == (precision == "int8")


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_a_format_that_the_processor_lacks_is_refused(precision, with_int8, processor):
    processor()
    with pytest.raises(SettingsError, match=f"does not compute in {precision}.*auto or f32"):
        load_in(with_int8, precision)


def test_torch_refuses_what_it_does_not_compute_in(folder):
    with pytest.raises(SettingsError, match="torch computes in f32, not in int8"):
        load_in(folder, "int8", engine="torch")


def test_asking_for_int8_takes_openvino_also_where_there_is_a_gpu(
    with_int8, processor, monkeypatch
):
    processor("int8")
    monkeypatch.setattr("cocuyo.segmentation.engine._gpu_available", lambda: True)
    assert load_in(with_int8, "int8").name == "openvino"


def test_f32_is_always_there_and_int8_on_no_other_kind_of_processor(monkeypatch):
    assert processor_formats()[-1] == "f32"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert not computes_in_int8()


@pytest.mark.parametrize("feature", ["AVX512VNNI", "AVX_VNNI", "AVX2"])
def test_a_processor_with_vnni_alone_computes_in_int8(monkeypatch, feature):
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    monkeypatch.setattr("cocuyo.segmentation.engine.computes_in_bf16", lambda: False)
    monkeypatch.setattr("cocuyo.segmentation.engine._linux_says_vnni", lambda: False)
    names = {3: "SSE3", 23: "AVX512VNNI", 28: "AVX_VNNI", 11: "AVX2"}
    monkeypatch.setattr("cv2.getHardwareFeatureName", lambda n: names.get(n, ""))
    monkeypatch.setattr("cv2.checkHardwareSupport", lambda n: names.get(n) == feature)
    assert processor_formats() == (("int8", "f32") if feature != "AVX2" else ("f32",))


def test_a_processor_that_computes_in_bf16_computes_in_int8(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    monkeypatch.setattr("cocuyo.segmentation.engine.computes_in_bf16", lambda: True)
    assert processor_formats() == ("int8", "bf16", "f32")


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="threads can be pinned where the system says to which of several cores",
)
def test_engines_leave_their_threads_to_the_scheduler(folder_of):
    """Threads pinned to a core share it with those of every other process that runs beside."""
    allowed = os.sched_getaffinity(0)
    engine = load(folder_of(CONFIG))
    at_work = threading.Thread(target=lambda: [engine.segment(image_of(0)) for _ in range(300)])
    at_work.start()
    seen = set()
    while at_work.is_alive():
        with contextlib.suppress(OSError):  # a thread that has just ended
            seen |= {
                frozenset(os.sched_getaffinity(int(task.name)))
                for task in Path("/proc/self/task").iterdir()
            }
    assert seen == {frozenset(allowed)}
