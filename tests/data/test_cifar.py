"""The reader of CIFAR-10 on files of its layout, made here."""

import numpy as np
import pytest
import torch

from learning_dynamics.data.cifar import CLASSES, RECORD, TEST, TRAIN, cifar10


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


def test_missing_folder_or_file(folder, tmp_path):
    with pytest.raises(ValueError, match=r"data_batch_1.bin is missing; expected the binary"):
        cifar10(tmp_path / "nowhere")
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(ValueError, match=r"data_batch_3.bin is missing"):
        cifar10(folder, per_class=1)


def test_truncated_file(folder):
    path = folder / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"data_batch_2.bin: 122919 bytes, not a whole number"):
        cifar10(folder, per_class=1)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"data_batch_2.bin: 0 bytes"):
        cifar10(folder, per_class=1)


def test_wrong_label(folder):
    data = bytearray((folder / "test_batch.bin").read_bytes())
    data[5 * RECORD] = 11
    (folder / "test_batch.bin").write_bytes(data)
    with pytest.raises(ValueError, match=r"test_batch.bin: record 5 has label 11"):
        cifar10(folder, per_class=1, test_per_class=1)


@pytest.mark.parametrize("classes", [("cat",), ("cat", "cat"), ("cat", "whale")])
def test_wrong_classes(folder, classes):
    with pytest.raises(ValueError, match="must be two or more distinct"):
        cifar10(folder, classes)


def test_too_few_images(folder):
    words = r"21 training images of airplane wanted, the files hold 20"
    with pytest.raises(ValueError, match=words):
        cifar10(folder, per_class=21, test_per_class=1)
    assert len(CLASSES) == 10
