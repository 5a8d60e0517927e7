"""The page of kinds names tests that exist, and its table says what is wrong where it is."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from learning_dynamics import Moments, saddles
from paper import kinds
from test_generated_users import NO_DATA

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "chapters/kinds.md").read_text()
LINES = re.search("```text\n(.*?)```", PAGE, re.S)[1].splitlines()


def test_every_kind_has_tests_that_exist():
    letters, file, named = [], None, 0
    for line in LINES:
        letter, name = line[0].strip(), line[1:].strip()
        letters += [letter] if letter else []
        if name.endswith(".py"):
            file = (TESTS / name).read_text()
        else:
            assert re.search(rf"def {name}\(", file), name
            named += 1
    assert letters == list("ABCDEFGHIJKLMNOP") and named > 30
    assert letters == re.findall(r"^\| ([A-P]) ", PAGE, re.M)


def test_every_public_function_that_takes_data_is_judged():
    assert set(kinds.CHECKS) == set(saddles.__all__) - set(NO_DATA)


def test_a_raw_table_is_answered_rightly():
    found = kinds.judge(["linnerud"])["linnerud"]
    assert set(found) == {"right", "global"}


def test_what_is_wrong_or_refused_is_said(monkeypatch):
    def refuse(t):
        raise ValueError("inputs: too many")

    t = kinds.Table("linnerud")
    wrong = {"levels": lambda _: (1.01 * saddles.levels(t.moments), saddles.levels(t.moments))}
    monkeypatch.setattr(kinds, "CHECKS", wrong | {"escape": refuse})
    found = kinds.judge(["linnerud"])["linnerud"]
    assert list(found) == ["off 1e-02", "inputs: too many"]


def test_the_slowest_rate_by_hand_is_that_of_a_known_problem():
    t = kinds.Table("iris")
    t.xx, t.yx, t.m2 = np.eye(2), np.diag([3.0, 1.0]), 2
    yx = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    t.moments = Moments(torch.eye(2).double(), yx, yx @ yx)
    assert kinds._slowest(t) == pytest.approx(2.0)
