import pytest

from atoll.core.errors import InvalidInput
from atoll.core.order import MAX_VARIABLE_BYTES, MAX_VARIABLES, CreateOrder, check_env, check_machine


def test_ordinary_variables_pass():
    check_env({"A": "", "PATH": "/bin", "ÜMLAUT": "value with = and \n"})


@pytest.mark.parametrize(
    "env",
    [
        {"": "x"},
        {"A=B": "x"},
        {"A\0": "x"},
        {"A": "x\0y"},
        {"A": "x" * MAX_VARIABLE_BYTES},
        {f"V{n}": "" for n in range(MAX_VARIABLES + 1)},
        {f"V{n}": "x" * 100_000 for n in range(11)},
    ],
    ids=["no name", "equals", "NUL in name", "NUL in value", "too long", "too many", "too much"],
)
def test_what_no_process_could_be_given_is_invalid(env: dict[str, str]):
    with pytest.raises(InvalidInput):
        check_env(env)


def test_a_machine_is_the_one_asked_for_or_any():
    check_machine(None, "here")
    check_machine("here", "here")
    with pytest.raises(InvalidInput, match="there is here"):
        check_machine("far", "here")


def test_an_order_does_not_show_its_variables():
    assert "s3cret" not in repr(CreateOrder("base", env={"TOKEN": "s3cret"}))
