"""The digits: shapes, split, targets."""

import pytest
import torch

from learning_dynamics.data.digits import digits, digits_pair


@pytest.mark.parametrize("source, pixels, count", [("mnist", 784, 1000), ("sklearn", 64, 360)])
def test_pair_is_split_by_class(source, pixels, count):
    split = digits_pair(3, 5, source=source, test_fraction=0.25)
    sizes = [p.inputs.shape[1] for p in (split.train, split.test)]
    assert split.train.inputs.shape[0] == pixels == split.side**2
    assert abs(sum(sizes) - count) <= 10
    share = split.train.targets.mean(1)
    assert float(share.sum()) == pytest.approx(1)
    assert abs(float(share[0] - share[1])) < 0.02
    assert float(split.train.inputs.min()) == 0 and float(split.train.inputs.max()) == 1
    together = torch.cat([split.train.inputs, split.test.inputs], dim=1)
    assert len(torch.unique(together, dim=1).T) == sum(sizes)  # no image in both parts


def test_signed_targets_and_seed():
    one = digits_pair(0, 1, source="sklearn", targets="signed", seed=1)
    two = digits_pair(0, 1, source="sklearn", targets="signed", seed=2)
    assert one.train.targets.unique().tolist() == [-1, 1]
    assert not torch.equal(one.test.inputs, two.test.inputs)


def test_centring_uses_the_training_mean():
    split = digits((1, 2, 4), source="sklearn", centre=True)
    assert float(split.train.inputs.mean(1).abs().max()) < 1e-12
    assert float(split.test.inputs.mean(1).abs().max()) > 1e-3
