"""Which recordings a batch finds, and what a list says of them."""

import json
import os
from pathlib import Path

import pytest

from cocuyo.batch import Reading, Search, find_recordings
from cocuyo.core import RecordingError, SettingsError

V4_FILES = ("0.avi", "1.avi", "timeStamps.csv")


@pytest.fixture
def place(tmp_path):
    """Make empty files below a folder."""

    def make(*names):
        for name in names:
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "in"

    return make


@pytest.fixture
def look(tmp_path):
    def find(source, **search):
        return find_recordings(source, search=Search(**search), out=tmp_path / "out")

    return find


@pytest.fixture
def listed(tmp_path):
    """Write a list and read it."""

    def read(text, reading=Reading()):
        path = tmp_path / "list.csv"
        path.write_text(text, encoding="utf-8")
        return find_recordings(path, reading=reading, out=tmp_path / "out")

    return read


def test_movies_are_found_in_natural_order_and_named_by_their_place(place, look):
    root = place("day2/a10.tif", "day2/a9.tif", "b.AVI", "notes.txt", ".hidden.tif", "day1/c.h5")
    assert [e.name for e in look(root)] == ["b", "day1__c", "day2__a9", "day2__a10"]


def test_every_kind_of_file_that_is_read_is_found_and_a_store_is_one_recording(place, look):
    root = place("a.nd2", "b.czi", "c.nwb", "d.zarr/zarr.json", "e.mat", "f.png")
    assert [e.name for e in look(root)] == ["a", "b", "c", "d"]
    assert [e.name for e in look(root, files=("*.mat",))] == ["e"]


def test_results_of_cocuyo_are_no_recordings(place, look):
    root = place(
        "a.tif", "a.cocuyo/mask.tif", "b.partial/mask.tif", "other/run.json", "other/x.tif"
    )
    (root / "a.cocuyo" / "run.json").write_text(json.dumps({"format": "cocuyo-result"}))
    assert [e.name for e in look(root)] == ["a", "other__x"]


def test_exports_of_a_result_and_what_live_keeps_are_no_recordings(place, look):
    root = place(
        "a.tif", "a.nwb", "a_labels.tif", "a_caiman.hdf5", "a.suite2p/ops.tif", "a.cocuyo/mask.tif",
        "b.tif", "b.nwb", "c.live/mask.tif",
    )  # fmt: skip
    (root / "a.cocuyo" / "run.json").write_text(json.dumps({"format": "cocuyo-result"}))
    (root / "c.live" / "live.json").write_text(json.dumps({"format": "cocuyo live"}))
    # b has no result beside it, so its NWB file is a recording as any other.
    found = sorted(Path(path).name for entry in look(root) for path in entry.paths)
    assert found == ["a.tif", "b.nwb", "b.tif"]


def test_the_folder_of_the_batch_is_left_out(place, tmp_path):
    root = place("a.tif", "out/b.tif")
    found = find_recordings(root, out=root / "out")
    assert [e.name for e in found] == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_to_folders_are_followed_once(place, look, tmp_path):
    root = place("day1/a.tif")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.tif").touch()
    (root / "day2").symlink_to(tmp_path / "elsewhere")
    (root / "day1" / "again").symlink_to(root)
    assert [e.name for e in look(root)] == ["day1__a", "day2__b"]


def test_recordings_that_differ_by_their_suffix_keep_it(place, look):
    assert [e.name for e in look(place("a.h5", "a.tif", "b.tif"))] == ["a.h5", "a.tif", "b"]


def test_a_folder_is_one_recording_if_asked_for(place, look):
    root = place("s1/msCam1.avi", "s1/msCam2.avi", "s2/frame1.png", "s2/frame2.png")
    found = look(root, each="folder")
    assert [(e.name, e.paths) for e in found] == [
        ("s1", (str(root / "s1"),)),
        ("s2", (str(root / "s2"),)),
    ]


def test_with_a_pattern_the_parts_of_a_folder_are_those_that_fit_in_natural_order(place, look):
    root = place("s1/msCam10.avi", "s1/msCam2.avi", "s1/behavCam1.avi")
    (entry,) = look(root, each="folder", files=("msCam*.avi",))
    assert entry.paths == (str(root / "s1/msCam2.avi"), str(root / "s1/msCam10.avi"))


def test_parts_that_are_all_of_a_folder_stand_for_it_with_its_times(place, look):
    root = place("s1/msCam1.avi", "s1/msCam2.avi", "s1/behavCam1.avi", "s1/timestamp.dat")
    (entry,) = look(root, each="folder", files=("msCam*.avi",))
    assert entry.paths == (str(root / "s1"),)
    (entry,) = look(root, each="folder", files=("msCam1.avi",))
    assert entry.paths == (str(root / "s1/msCam1.avi"),)


def test_a_camera_that_watches_the_animal_is_no_recording(place, look):
    root = place(*(f"s1/{name}/{file}" for name in ("Scope", "BehavCam") for file in V4_FILES))
    assert [e.name for e in look(root, each="folder")] == ["s1__Scope"]


def test_a_list_that_is_no_text_is_refused(look, tmp_path):
    (tmp_path / "slice.tif").write_bytes(b"II*\x00\xff\xfe")
    with pytest.raises(SettingsError, match=r"in Excel: CSV UTF-8.* cocuyo run"):
        look(tmp_path / "slice.tif")


def test_groups_and_experiments_come_from_folders_or_from_a_pattern(place, look):
    root = place("drug/rat1/a.tif", "control/rat2/b.tif")
    found = look(root, group="parent", animal="folder")
    assert [(e.group, e.animal) for e in found] == [("control", "rat2"), ("drug", "rat1")]
    found = look(root, group="^(drug|control)/", animal=r"rat(\d+)", experiment="(rat.)")
    assert [(e.group, e.animal) for e in found] == [("control", "2"), ("drug", "1")]
    assert [(e.experiment, e.result) for e in found] == [("rat2", "rat2"), ("rat1", "rat1")]


def test_folders_of_one_name_in_two_places_are_two_experiments(place, look):
    root = place("day1/s1/a.tif", "day1/s1/b.tif", "day2/s1/a.tif", "c.tif")
    found = look(root, experiment="folder")
    assert [(e.name, e.experiment, e.result) for e in found] == [
        ("c", "", "c"),
        ("day1__s1__a", "day1/s1", "day1__s1"),
        ("day1__s1__b", "day1/s1", "day1__s1"),
        ("day2__s1__a", "day2/s1", "day2__s1"),
    ]
    assert [e.result for e in look(root, experiment="parent")][1:] == ["day1", "day1", "day2"]


def test_a_pattern_finds_the_recordings_of_a_field_in_any_folder(place, look):
    root = place("day1/slice1.tif", "day2/slice1.tif", "day2/slice2.tif")
    found = look(root, experiment="(slice[0-9]+)")
    assert [e.result for e in found] == ["slice1", "slice1", "slice2"]
    assert [e.name for e in found] == ["day1__slice1", "day2__slice1", "day2__slice2"]


def test_sessions_that_are_folders_can_be_one_experiment(place, look):
    root = place("rat1/before/msCam1.avi", "rat1/before/msCam2.avi", "rat1/drug/msCam1.avi")
    found = look(root, each="folder", experiment="folder")
    assert [(e.name, e.result) for e in found] == [
        ("rat1__before", "rat1"),
        ("rat1__drug", "rat1"),
    ]


def test_an_experiment_and_a_recording_of_one_name_have_different_results(place, look):
    root = place("s.tif", "s/a.tif", "s/b.tif")
    found = look(root, experiment="folder")
    assert [(e.name, e.result) for e in found] == [("s", "s"), ("s__a", "s-2"), ("s__b", "s-2")]


def test_one_field_is_of_one_animal(place, look):
    root = place("rat1_s.tif", "rat2_s.tif")
    with pytest.raises(SettingsError, match=r"rat2_s.tif: the animal is 'rat2', and 'rat1'"):
        look(root, experiment="(s)[.]", animal="(rat.)")


@pytest.mark.parametrize("rule", ["(", "rat", "(a)(b)"])
def test_a_rule_that_is_no_pattern_with_one_parenthesis_is_refused(place, look, rule):
    with pytest.raises(SettingsError, match="--group"):
        look(place("a.tif"), group=rule)


@pytest.mark.parametrize("option", ["group", "experiment", "animal"])
def test_a_rule_that_says_nothing_of_any_recording_is_refused(place, look, option):
    root = place("slice1_a.tif", "slice1_b.tif")
    for rule in ("(slyce[0-9])", "folder"):
        with pytest.raises(SettingsError, match=rf"--{option} .* such as slice1_a.tif"):
            look(root, **{option: rule})


def test_nothing_to_find_is_an_error(place, look, tmp_path):
    with pytest.raises(RecordingError, match="No recording"):
        look(place("a.txt"))
    with pytest.raises(RecordingError, match="neither a folder"):
        look(tmp_path / "absent")


def test_a_list_says_how_each_recording_is_read(listed, tmp_path):
    first, second = listed(
        "recording,group,animal,frame_rate_hz,pixel_size_um,frames,exclude,timestamps,age\n"
        "in/a.tif,drug,rat1,6.67,1.5,10:,masks/a.png,t.csv,P10\n"
        "/data/b.tif,,,,,,,,\n",
        Reading(frame_rate_hz=20, channel=1),
    )
    assert first.paths == (str(tmp_path / "in" / "a.tif"),)
    assert first.reading == Reading(
        frame_rate_hz=6.67,
        pixel_size_um=1.5,
        frames=(10, None),
        channel=1,
        timestamps=str(tmp_path / "t.csv"),
    )
    assert first.exclude == str(tmp_path / "masks" / "a.png")
    assert (first.group, first.animal, first.labels) == ("drug", "rat1", {"age": "P10"})
    assert (second.name, second.paths) == ("b", ("/data/b.tif",))
    assert second.reading == Reading(frame_rate_hz=20, channel=1)
    assert second.labels == {"age": ""}


def test_a_column_of_the_list_names_the_experiment_of_a_recording(listed):
    found = listed(
        "recording,experiment,animal,exclude\n"
        "x.tif,slice 1,rat1,m.png\ny.tif,,,\nz.tif,slice 1,,\nw.tif,slice 1,,m.png\n"
    )
    assert [(e.name, e.experiment, e.result) for e in found] == [
        ("x", "slice 1", "slice 1"),
        ("y", "", "y"),
        ("z", "slice 1", "slice 1"),
        ("w", "slice 1", "slice 1"),
    ]
    assert [e.animal for e in found] == ["rat1", "", "rat1", "rat1"]


def test_a_list_as_a_german_spreadsheet_writes_it_is_read(listed):
    (entry,) = listed("﻿Recording;Frame rate;Pixel-size\nx.tif;6,67;1,5\n")
    assert (entry.reading.frame_rate_hz, entry.reading.pixel_size_um) == (6.67, 1.5)


def test_a_pattern_in_a_list_stands_for_the_parts_of_one_recording(listed, place):
    root = place("s/msCam10.avi", "s/msCam2.avi")
    (entry,) = listed("recording,name\nin/s/msCam*.avi,session\n")
    assert entry.paths == (str(root / "s/msCam2.avi"), str(root / "s/msCam10.avi"))
    assert entry.name == "session"


def test_rows_of_one_file_name_get_different_names(listed):
    names = [e.name for e in listed("recording\na/rec.tif\nb/rec.tif\nb/rec.tif\n")]
    assert names == ["a__rec.tif", "b__rec.tif", "b__rec.tif-2"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path2\nx.tif\n", "no column 'recording'"),
        ("recording,pixelsize_um\nx.tif,1\n", "was 'pixel_size_um' meant"),
        ("recording,recording\nx.tif,y.tif\n", "twice"),
        ("recording,frame_rate_hz\nx.tif,fast\n", "Row 2 .*frame_rate_hz is 'fast'"),
        ("recording,frames\nx.tif,1-4\n", "Row 2 .*A:B"),
        ("recording,group\n,drug\n", "Row 2 .*names no recording"),
        ("recording,name\nx.tif,n\ny.tif,n\n", "'n' to more than one"),
        ("recording\nx.tif,1,2\n", "3 cells for 1 column"),
        ("recording,experiment\nx.tif,e\nx.tif,e\n", "Row 3 .*x.tif is in .* 'e' already"),
        (
            "recording,experiment,channel\nx.tif,e,0\ny.tif,,1\nz.tif,e,1\n",
            "Row 4 .*channel is 1, and 0 in Row 2 .* are read in one way",
        ),
        ("recording,experiment,axes\nx.tif,e,\ny.tif,e,TYX\n", "is 'TYX', and not given in Row"),
        ("recording,experiment,diameter_um\nx.tif,e,9\ny.tif,e,\n", "diameter_um is not given"),
        ("recording,experiment,exclude\nx.tif,e,\ny.tif,e,m.png\n", "Row 3 .*exclude is not that"),
        ("recording,experiment,animal\nx.tif,e,a\ny.tif,e,b\n", "Row 3 .*the animal is 'b'"),
        ("recording,experiment,name\nx.tif,e,\ny.tif,,e\n", "'e' to a recording and an experim"),
    ],
)
def test_a_list_that_cannot_be_understood_is_refused_with_its_row(listed, text, words):
    with pytest.raises(SettingsError, match=words):
        listed(text)


def test_names_are_such_that_any_system_takes_them(listed):
    names = [e.name for e in listed("recording,name\nx.tif,con\ny.tif,a/b:c*\nz.tif,r.partial\n")]
    assert names == ["recording-con", "a__b-c", "r-partial"]
