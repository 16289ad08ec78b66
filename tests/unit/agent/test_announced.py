from pathlib import Path

from atoll.agent.announced import write

ENV = {"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": "abc", "E2B_TEMPLATE_ID": "base", "E2B_OTHER": "x", "E2B_/../x": "y"}


def files(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_the_known_variables_are_files(tmp_path: Path):
    write(ENV, str(tmp_path / "e2b"))
    assert files(tmp_path / "e2b") == {".E2B_SANDBOX": "true", ".E2B_SANDBOX_ID": "abc", ".E2B_TEMPLATE_ID": "base"}


def test_without_them_there_is_no_directory(tmp_path: Path):
    write({"A": "b"}, str(tmp_path / "e2b"))
    assert not (tmp_path / "e2b").exists()


def test_what_an_earlier_life_left_there_is_replaced_and_not_followed(tmp_path: Path):
    other = tmp_path / "other"
    other.write_text("kept")
    directory = tmp_path / "e2b"
    directory.mkdir()
    for name in (".E2B_SANDBOX_ID", ".E2B_SANDBOX_ID.new"):
        (directory / name).symlink_to(other)
    write(ENV, str(directory))
    assert files(directory)[".E2B_SANDBOX_ID"] == "abc"
    assert other.read_text() == "kept"


def test_a_directory_that_cannot_be_written_stops_nothing(tmp_path: Path, capsys):
    (tmp_path / "e2b").write_text("a file")
    write(ENV, str(tmp_path / "e2b"))
    assert "is not written" in capsys.readouterr().err
