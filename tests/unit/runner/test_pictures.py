import pytest

IMAGE = "from PIL import Image\nimage = Image.new('RGB', (2, 2))\n"


@pytest.mark.parametrize("describe", [False, True])
def test_image_appears_where_the_program_shows_it(science, describe):
    outcome = science.run(IMAGE + "image.show()\nprint('shown')", describe=describe)
    assert [sorted(one) for one in outcome.displays] == [["image/jpeg", "image/png", "text/plain"]]
    assert outcome.stdout == "shown\n"


@pytest.mark.parametrize("name", ["'image.png'", "pathlib.Path('image.png')"])
def test_saved_image_appears_where_descriptions_are_asked_for(science, name, tmp_path):
    code = f"import pathlib\n{IMAGE}image.save({name})"
    assert len(science.run(code, describe=True).displays) == 1
    assert (tmp_path / "image.png").read_bytes()[1:4] == b"PNG"
    assert science.run(code).displays == []


def test_image_saved_into_a_buffer_does_not_appear(science):
    assert science.run(IMAGE + "import io\nimage.save(io.BytesIO(), 'png')", describe=True).displays == []


def test_image_that_cannot_be_saved_does_not_appear(science):
    outcome = science.run(IMAGE + "image.save('image.unknown')", describe=True)
    assert outcome.error["name"] == "ValueError"
    assert outcome.displays == []


@pytest.mark.parametrize("name", ["figure.png", "figure.jpg"])
def test_saved_figure_appears_once_as_a_figure(science, name, tmp_path):
    outcome = science.run(f"import matplotlib.pyplot as plt\nplt.plot([1])\nplt.savefig({name!r})", describe=True)
    (shown,) = outcome.displays
    assert "e2b/chart" in shown
    assert (tmp_path / name).exists()
