from __future__ import annotations

from dataclasses import replace

import pytest

from atoll.core.errors import InvalidInput
from atoll.core.limits import LARGEST, SMALLEST, Limits
from atoll.storage.spec import TemplateSpec, layer_digest, parse, plan, same_but_for_age, template_of
from atoll.storage.templates import STOCK, stock_specs

PINNED = "numpy==2.0 --hash=sha256:00\n"


def test_every_field_is_read():
    spec = parse(
        """
        name: full
        display_name: Full
        description: all of it
        category: code
        language: python
        features: [a]
        tags: [b]
        from: base
        packages: [golang-go]
        pip: pins.txt
        files: [{path: /etc/x, content: "y", mode: "0440", uid: 1, gid: 2}]
        commands: ["true", [/bin/true, x]]
        python: /usr/bin/python3
        preload: [numpy, matplotlib.pyplot]
        workdir: /app
        env: {A: 1}
        limits: {memory_mib: 512}
        min_size: {memory_mib: 256}
        max_size: {vcpu: 4, disk_mib: 20480}
        """,
        {"pins.txt": PINNED},
    )
    assert (spec.name, spec.parent, spec.requirements, spec.workdir) == ("full", "base", PINNED, "/app")
    assert spec.commands == ("true", ("/bin/true", "x"))
    assert (spec.files[0].mode, spec.files[0].uid, spec.files[0].gid) == (0o440, 1, 2)
    assert spec.env == {"A": "1"}
    assert spec.limits == Limits(memory_mib=512)
    assert spec.min_size == replace(SMALLEST, memory_mib=256)
    assert spec.max_size == replace(LARGEST, vcpu=4, disk_mib=20480)


@pytest.mark.parametrize(
    "text",
    [
        "- a list",
        "name: [",
        "{}",
        "name: Upper",
        "name: ../etc",
        "name: x\nsurprise: 1",
        "name: x\nvariant: everything",
        "name: x\nfrom: ../y",
        "name: x\npackages: [--option]",
        "name: x\npackages: bash",
        "name: x\npreload: ['os; evil']",
        "name: x\npython: python3",
        "name: x\nworkdir: /a/../b",
        "name: x\nworkdir: 7",
        "name: x\nenv: {'A B': c}",
        "name: x\nenv: [A]",
        "name: x\nlimits: {memory_mib: 0}",
        "name: x\nlimits: {memory: 1}",
        "name: x\nlimits: {vcpu: two}",
        "name: x\nmin_size: {vcpu: 3}",
        "name: x\nmax_size: {memory_mib: 1024}",
        "name: x\nmin_size: {processes: 5}",
        "name: x\nmax_size: [8]",
        "name: x\nmin_size: {vcpu: 0}",
        "name: x\npip: absent.txt",
        "name: x\npip: loose.txt",
        "name: x\nfiles: [/etc/x]",
        "name: x\nfiles: [{path: etc/x}]",
        "name: x\nfiles: [{path: /x, mode: 0440}]",
        "name: x\nfiles: [{path: /x, mode: '9'}]",
        "name: x\nfiles: [{path: /x, uid: 70000}]",
        "name: x\ncommands: [[]]",
        "name: x\ncommands: [7]",
    ],
)
def test_a_malformed_template_is_refused(text):
    with pytest.raises(InvalidInput):
        parse(text, {"loose.txt": "numpy\n"})


def test_an_error_names_the_template():
    with pytest.raises(InvalidInput, match="template x: python is an absolute path"):
        parse("name: x\npython: bin")


def test_a_parent_comes_before_its_child_and_lies_under_it():
    child, parent = TemplateSpec("child", parent="parent"), TemplateSpec("parent")
    steps = plan([child, parent], "bookworm/x86_64")
    assert [step.spec.name for step in steps] == ["parent", "child"]
    assert steps[1].below == (f"parent/{steps[0].digest}",)


def test_layers_of_three_generations_are_uppermost_first(tmp_path):
    specs = [TemplateSpec("c", parent="b"), TemplateSpec("b", parent="a"), TemplateSpec("a")]
    top = plan(specs, "p")[-1]
    layers = template_of(top, tmp_path, 0.0).layers
    assert [layer.split("/")[-3] for layer in layers] == ["c", "b", "a"]


@pytest.mark.parametrize("specs", [[TemplateSpec("a", parent="a")], [TemplateSpec("a", parent="nowhere")]])
def test_a_parent_that_cannot_be_is_refused(specs):
    with pytest.raises(InvalidInput):
        plan(specs, "p")


def _digests(*specs: TemplateSpec, platform: str = "p") -> dict[str, str]:
    return {step.spec.name: step.digest for step in plan(specs, platform)}


def test_the_layer_digest_follows_content_parent_and_platform():
    parent, child = TemplateSpec("parent", packages=("bash",)), TemplateSpec("child", parent="parent")
    before = _digests(parent, child)
    assert _digests(parent, child) == before
    changed = _digests(TemplateSpec("parent", packages=("dash",)), child)
    assert changed["parent"] != before["parent"]
    assert changed["child"] != before["child"]
    assert _digests(parent, child, platform="q")["parent"] != before["parent"]
    assert _digests(parent, TemplateSpec("child", parent="parent", requirements=PINNED))["parent"] == before["parent"]


def test_words_about_a_template_do_not_rebuild_its_layer():
    assert _digests(TemplateSpec("a", description="x")) == _digests(TemplateSpec("a", description="y"))


def test_another_preload_is_another_template_on_the_same_layer(tmp_path):
    one, two = (template_of(plan([TemplateSpec("a", preload=p)], "p")[0], tmp_path, 0.0) for p in ((), ("numpy",)))
    assert one.layers == two.layers
    assert one.digest != two.digest


def test_age_alone_makes_no_difference(tmp_path):
    (step,) = plan([TemplateSpec("a")], "p")
    assert same_but_for_age(template_of(step, tmp_path, 1.0), template_of(step, tmp_path, 2.0))


def test_the_stock_templates_are_what_the_documents_promise():
    specs = {spec.name: spec for spec in stock_specs()}
    assert set(specs) == {"base", "busybox", "code-interpreter", "code-interpreter-v1"}
    assert specs["code-interpreter"].parent == "base"
    assert specs["code-interpreter-v1"].parent == "code-interpreter"
    assert specs["code-interpreter"].preload == ("numpy", "pandas", "matplotlib.pyplot")
    assert specs["base"].preload == ()
    assert specs["busybox"].python is None
    pinned = specs["code-interpreter"].requirements
    for name in ("numpy", "pandas", "matplotlib", "scipy", "scikit-learn", "requests", "flask", "pillow", "ipython"):
        assert f"\n{name}==" in pinned


def test_the_pinned_requirements_name_no_place_to_fetch_from():
    for spec in stock_specs():
        assert "://" not in spec.requirements
        assert "index-url" not in spec.requirements


def test_limits_beyond_the_usual_sizes_move_these():
    spec = parse("name: x\nlimits: {vcpu: 32, memory_mib: 64}")
    assert (spec.max_size.vcpu, spec.min_size.memory_mib) == (32, 64)


def test_sizes_make_no_other_layer():
    plain, sized = parse("name: x"), parse("name: x\nmax_size: {vcpu: 2}")
    assert layer_digest(plain, (), "p") == layer_digest(sized, (), "p")


def test_a_file_may_be_a_copy_of_one_beside_the_template():
    text = "name: a\nfiles: [{path: /x, copy: a/x.py}]"
    assert parse(text, {"a/x.py": "content"}).files[0].content == "content"
    for wrong in (text, text.replace("copy", "content: y, copy")):
        with pytest.raises(InvalidInput, match="a/x"):
            parse(wrong, {"a/other.py": ""} if wrong == text else {"a/x.py": ""})


def test_a_stock_template_is_called_as_its_file():
    """What is not built is known by the files alone."""
    assert {spec.name for spec in stock_specs()} == {path.stem for path in STOCK.glob("*.yaml")}
