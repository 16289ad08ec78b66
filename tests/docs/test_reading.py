from __future__ import annotations

import json
import subprocess
import sys

import pytest
import reading
import terminal

PAGE = """# A page, with `code`: and more

Text with [a link](other.md#there), an ![image](x.svg) and `[no link](nowhere.md)`.

<!-- not run: needs a public name -->

```bash
curl https://example.com
```

```python title="plot.py"
# not a heading
print(1)
```

```python
print(2)
```
<!-- prints -->
```text
2
```

- In a list:

    ```console
    $ echo one \\
        two
    one two
    ```

## Twice
## Twice
"""


def test_blocks_are_found_with_their_marks() -> None:
    first, file, second, console = reading.blocks("docs/x.md", PAGE)
    assert (first.language, first.line, first.not_run, first.is_run) == ("bash", 7, "needs a public name", False)
    assert (file.title, file.is_run) == ("plot.py", False)
    assert (second.text, second.prints, second.is_run) == ("print(2)\n", "2\n", True)
    assert console.text == "$ echo one \\\n    two\none two\n"


def test_a_mark_counts_for_the_next_block_only() -> None:
    page = "<!-- not run: why -->\n```bash\na\n```\n```bash\nb\n```\n"
    assert [block.not_run for block in reading.blocks("x.md", page)] == ["why", None]


def test_a_block_without_an_end_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"x\.md:1"):
        reading.blocks("x.md", "```python\nprint(1)\n")


def test_links_in_code_are_no_links() -> None:
    assert reading.links(PAGE) == [(3, "other.md#there"), (3, "x.svg")]


def test_anchors_are_those_of_code_hosts() -> None:
    assert reading.anchors(PAGE) == {"a-page-with-code-and-more", "twice", "twice-1"}


def test_console_blocks_are_commands_and_what_they_print() -> None:
    text = "$ echo one \\\n    two\none two\n$ true\n"
    assert terminal.commands(text) == ["echo one \\", "    two", "true"]
    assert terminal.transcript(text) == "one two"


@pytest.mark.parametrize(
    ("expected", "printed", "right"),
    [
        ("2", "2\n", True),
        ("2", "22\n", False),
        ("id … running", "id abc running", True),
        ("a\n…", "a\nb\nc\n", True),
        ("a.c", "abc", False),
        ("a", "b\na", False),
    ],
)
def test_what_is_printed_is_compared(expected, printed, right) -> None:
    assert terminal.says(expected, printed) is right


def outcome_of(tmp_path, *blocks: dict[str, object]) -> dict[str, object]:
    whole = [{"place": "x.md:3", "title": None, "prints": None, **block} for block in blocks]
    run = subprocess.run(
        [sys.executable, terminal.__file__],
        input=json.dumps(whole),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    return dict(json.loads(run.stdout))


def test_a_page_is_one_session(tmp_path) -> None:
    outcome = outcome_of(
        tmp_path,
        {"language": "bash", "text": "mkdir sub; cd sub\nexport FRUIT=apple\n"},
        {"language": "python", "text": "import os\nfruit = os.environ['FRUIT']\n"},
        {"language": "python", "text": "import asyncio\nawait asyncio.sleep(0)\nprint(fruit)\n", "prints": "apple"},
        {"language": "python", "text": "print('in a file')\n", "title": "made.py"},
        {"language": "console", "text": "$ python3 made.py\nin a file\n$ basename $PWD\nsub\n"},
    )
    assert outcome == {"ran": 5, "wrong": None}


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"language": "python", "text": "1 / 0\n"}, "x.md"),
        ({"language": "python", "text": "import sys; sys.exit()\n"}, "SystemExit"),
        ({"language": "python", "text": "print(1)\n", "prints": "2"}, "it prints"),
        ({"language": "bash", "text": "false\ntrue\n"}, "status 1"),
        ({"language": "bash", "text": "false | true\n"}, "status 1"),
        ({"language": "console", "text": "$ echo a\nb\n"}, "it prints"),
    ],
)
def test_what_goes_wrong_is_said_with_its_place(tmp_path, block, said) -> None:
    outcome = outcome_of(tmp_path, block, {"language": "python", "text": ""})
    assert outcome["ran"] == 0
    assert "x.md" in str(outcome["wrong"])
    assert said in str(outcome["wrong"])
