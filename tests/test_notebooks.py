"""Chapters as notebooks: the comparison notices changes; few cells are exempt; text is fit to print."""

import copy
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

import notebooks
from notebook_comparison import code_state
from notebooks import ROOT, code, comparable, read, snap, snapped
from tables import table

CHAPTERS = notebooks.chapter_files()
NOTEBOOKS = notebooks.notebook_chapters()


def name_of(path):
    return path.relative_to(ROOT / "chapters").with_suffix("").as_posix()


GIVEN = table("notebook_comparison")


@pytest.mark.parametrize(("test", "reference", "floor", "same"), GIVEN["numbers"])
def test_numbers_are_compared_within_the_tolerance(test, reference, floor, same):
    assert (snap(test, reference, floor) == reference) is same


def test_a_changed_output_is_another_output():
    cell = new_code_cell("x")
    old = [{"output_type": "stream", "name": "stdout", "text": "loss 0.2500\n"}]
    new = [{**old[0], "text": "loss 0.2600\n"}]
    assert snapped(copy.deepcopy(old), old, cell) == old
    assert snapped(new, old, cell) == new and snapped([], old, cell) == []
    told = [line.split('"')[3] for line in notebooks.differences([old], [new])]
    assert told == ["loss 0.2500\\n", "loss 0.2600\\n"]


def test_the_floor_of_a_cell_holds_for_all_that_it_shows():
    new, old = ([new_output("display_data", {"text/plain": x})] for x in ("1e-16", "2e-16"))
    for floor, same in ((0, False), ("1e-15", True)):
        assert (snapped(new, old, new_code_cell("x", metadata={"floor": floor})) == old) is same


def test_images_are_not_compared_but_their_text_neighbours_are():
    figure = new_output("display_data", {"image/svg+xml": "<svg/>", "text/plain": "<Figure>"})
    table = new_output("execute_result", {"text/plain": "1.5"}, execution_count=1)
    assert comparable([figure]) == []
    assert comparable([figure, table])[0]["data"] == {"text/plain": "1.5"}


def test_nbval_fails_exactly_where_a_result_changed(tmp_path):
    """The comparison itself, through nbval, with this suite's own corrections."""
    cells = []
    for source, reference, _ in GIVEN["cells"]:
        cell = new_code_cell(source, execution_count=1)
        if reference:
            cell.outputs = [new_output("stream", name="stdout", text=reference + "\n")]
        cells.append(cell)
    spec = {"kernelspec": {"name": "python3", "display_name": "p", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=spec), tmp_path / "example.ipynb")
    (tmp_path / "conftest.py").write_text(
        f"import sys; sys.path[:0] = [{str(ROOT / 'tests')!r}, {str(ROOT / '_ext')!r}]\n"
        "import notebook_comparison; notebook_comparison.install()\n"
    )
    command = [sys.executable, "-m", "pytest", "-rA", "--nbval", "example.ipynb"]
    command += [x for name in ("cacheprovider", "xdist", "jaxtyping") for x in ("-p", f"no:{name}")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    found = [f"PASSED example.ipynb::Cell {i}" in done.stdout for i in range(len(cells))]
    assert found == [passes for *_, passes in GIVEN["cells"]], done.stdout


@pytest.mark.parametrize("chapter", NOTEBOOKS, ids=name_of)
def test_what_the_book_executed_repeats_the_reference(chapter):
    """Of chapters that `make book` executed with this code; the others are executed by nbval."""
    if not (done := notebooks.built(chapter, digest=code_state())):
        pytest.skip("nbval executes it")
    for cell, old in zip(code(done), notebooks.reference(chapter), strict=True):
        new = snapped(comparable(cell.outputs), old, cell)
        assert new == old, notebooks.differences([old], [new])


def test_every_chapter_is_in_the_table_of_contents():
    written = {p for p in (ROOT / "chapters").rglob("*.md") if ".ipynb_checkpoints" not in p.parts}
    assert written == set(CHAPTERS)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=name_of)
def test_a_chapter_is_fit_to_print_and_its_cells_are_compared(chapter):
    text = chapter.read_text()
    assert not re.search(r"\\begin\{align\*?\}", text), "use aligned inside $$"
    assert not re.search(r"\\tag\b|\\newcommand|\\def\b", text)
    assert not re.search("NBVAL_|nbval-|raises-exception", text), "no cell is exempt"
    if chapter in NOTEBOOKS:
        file = notebooks.reference_file(chapter)
        assert file.exists(), "run `make reference`"
        assert file.stat().st_size < 100_000 and "image/" not in file.read_text()
    for cell in code(read(chapter)):
        assert all(len(line) <= 79 for line in cell.source.splitlines()), cell.source
        mystnb, tags = cell.metadata.get("mystnb", {}), set(cell.metadata.get("tags", ()))
        shows = "plt.show()" in cell.source or "figure" in mystnb
        if shows and not {"remove-output", "remove-cell"} & tags:
            assert mystnb.get("figure", {}).get("name", "").startswith("fig-"), cell.source
            assert mystnb["figure"].get("caption"), cell.source
            assert mystnb.get("image", {}).get("alt"), cell.source


def test_a_chapter_that_is_opened_and_saved_in_jupyter_stays_as_it_is(tmp_path):
    shutil.copytree(ROOT / "chapters", tmp_path / "chapters")
    for name in ("_toc.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    notebooks.tidy(tmp_path)
    texts = {p: (tmp_path / p.relative_to(ROOT)).read_text() for p in CHAPTERS}
    assert not [p for p in CHAPTERS if p.read_text() != texts[p]], "run `make tidy`"


def test_jupyter_opens_chapters_as_notebooks(monkeypatch):
    """As `make lab` starts it: the setting is found, and by the names that Jupyter gives to files."""
    from jupyterlab_server.settings_utils import _get_overrides

    line = next(x for x in (ROOT / "Makefile").read_text().splitlines() if "jupyter lab" in x)
    assert "JUPYTER_CONFIG_PATH=_ext/jupyter" in line
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(ROOT / "_ext" / "jupyter"))
    found, fault = _get_overrides("")
    viewers = found["@jupyterlab/docmanager-extension:plugin"]["defaultViewers"]
    assert not fault and viewers["markdown"] == viewers["myst"] == "Jupytext Notebook"
