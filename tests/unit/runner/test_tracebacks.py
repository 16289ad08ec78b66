import linecache

from atoll.agent.runner import tracebacks


def test_source_of_old_cells_is_forgotten(monkeypatch):
    monkeypatch.setattr(tracebacks, "MAX_SOURCES", 2)
    monkeypatch.setattr(tracebacks, "_sources", type(tracebacks._sources)())
    for number in range(3):
        tracebacks.remember_source(tracebacks.cell_name(number), f"line {number}")
    assert linecache.getline("<cell 0>", 1) == ""
    assert linecache.getline("<cell 2>", 1) == "line 2\n"


def test_form_feed_does_not_shift_lines():
    tracebacks.remember_source("<cell 7>", "a\x0cb\r\nc")
    assert linecache.getline("<cell 7>", 2) == "c\n"


def test_error_from_outside_cells_keeps_its_frames():
    try:
        raise ValueError("here")
    except ValueError as error:
        text = tracebacks.text_of(error)
    assert "test_error_from_outside_cells" in text


def test_hostile_exception_class_is_named():
    class Meta(type):
        def __getattribute__(cls, name):
            raise RuntimeError(name)

    class Hostile(Exception, metaclass=Meta):
        pass

    error = Hostile()
    assert tracebacks.name_of(error) == "Hostile"
    assert "Hostile" in tracebacks.text_of(error)
