"""The reader of CIFAR-10 on files of its layout, made here."""

import numpy as np
import pytest
import torch

from learning_dynamics.data.cifar import RECORD, TEST, TRAIN, cifar10


@pytest.fixture
def folder(tmp_path):
    """Six files of 40 records: labels 0..9 in turn, pixel k of record i is (i + k) % 256."""
    for j, name in enumerate((*TRAIN, *TEST)):
        records = np.zeros((40, RECORD), dtype=np.uint8)
        records[:, 0] = np.arange(40) % 10
        records[:, 1:] = (np.arange(40)[:, None] + np.arange(3072) + 100 * j) % 256
        records.tofile(tmp_path / name)
    return tmp_path


def test_reads_images_and_labels(folder):
    train, test = cifar10(folder, ("cat", "airplane"), per_class=6, test_per_class=4)
    assert train.inputs.shape == (3072, 12) and test.inputs.shape == (3072, 8)
    assert train.inputs.dtype == torch.float32
    # first cat: record 3 of the first file; fifth: record 3 of the second
    expected = torch.arange(3072) % 256
    assert torch.equal(train.inputs[:, 0], ((expected + 3) % 256).float() / 255)
    assert torch.equal(train.inputs[:, 4], ((expected + 103) % 256).float() / 255)
    assert torch.equal(train.targets, torch.eye(2).repeat_interleave(6, 1))
    assert torch.equal(test.inputs[:, 4], ((expected + 500) % 256).float() / 255)
    assert float(train.inputs.min()) == 0 and float(train.inputs.max()) == 1


def shorten(path, size):
    path.write_bytes(path.read_bytes()[:size])


def relabel(path):
    data = bytearray(path.read_bytes())
    data[5 * RECORD] = 11
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda f: (f / TRAIN[0]).unlink(), {}, "data_batch_1.bin is missing; expected the binary"),
        (lambda f: (f / TRAIN[2]).unlink(), {}, "data_batch_3.bin is missing"),
        (lambda f: shorten(f / TRAIN[1], -1), {}, "data_batch_2.bin: 122919 bytes, not a whole"),
        (lambda f: shorten(f / TRAIN[1], 0), {}, "data_batch_2.bin: 0 bytes"),
        (lambda f: relabel(f / TEST[0]), {}, "test_batch.bin: record 5 has label 11"),
        (id, {"classes": ("cat",)}, "must be two or more distinct"),
        (id, {"classes": ("cat", "cat")}, "must be two or more distinct"),
        (id, {"classes": ("cat", "whale")}, "must be two or more distinct"),
        (id, {"per_class": 21}, "21 training images of airplane wanted, the files hold 20"),
    ],
)
def test_what_is_no_cifar_is_refused(folder, spoil, options, message):
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        cifar10(folder, **{"per_class": 1, "test_per_class": 1} | options)
