"""Traces on disk: the same values, no memory, nothing left behind."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from cocuyo.core import release_pages
from cocuyo.io import DiskScratch, scratch


@pytest.fixture
def on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "_SMALLEST", 0)
    return DiskScratch(tmp_path)


@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_values_stay_when_their_memory_is_freed(on_disk, dtype):
    values = np.random.default_rng(1).random((30, 4000)) > 0.5
    kept = on_disk.array(values.shape, dtype)
    kept[:] = values
    on_disk.release()
    release_pages(kept[3:])
    np.testing.assert_array_equal(kept, values)


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps the name until the file is closed.")
def test_no_file_is_left_in_the_folder(on_disk, tmp_path):
    kept = on_disk.array((2, 3))
    kept[:] = 1
    assert list(tmp_path.iterdir()) == []


def test_small_arrays_stay_in_memory(tmp_path):
    small = DiskScratch(tmp_path).array((10, 100))
    assert small.base is None


def test_a_full_disk_is_an_error_before_anything_is_written(on_disk, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left") as error:
        on_disk.array((10, 100))
    assert error.value.filename == str(tmp_path)


FILL = """
import pathlib, resource, sys
from cocuyo.io import DiskScratch

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

scratch = DiskScratch(pathlib.Path(sys.argv[1]))
before = peak_mb()
values = scratch.array((500, 100_000))
for start in range(0, 100_000, 1000):
    values[:, start : start + 1000] = start
    scratch.release()
for row in values:
    assert row[-1] == 99_000
    scratch.release()
print(peak_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Other systems free memory when they need it.")
def test_an_array_of_200_megabytes_needs_a_tenth_of_that(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FILL, tmp_path], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 20
