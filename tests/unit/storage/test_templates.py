from __future__ import annotations

import pytest

from atoll.core.errors import InternalError, NotFound
from atoll.storage import templates
from atoll.storage.spec import TemplateSpec, plan

SPECS = (TemplateSpec("base"), TemplateSpec("child", parent="base"), TemplateSpec("other"))


def names(steps) -> list[str]:
    return [step.spec.name for step in steps]


def test_asking_for_one_brings_what_it_is_built_from():
    assert names(templates.wanted(plan(SPECS, "p"), ["child"])) == ["base", "child"]
    assert names(templates.wanted(plan(SPECS, "p"), None)) == ["base", "child", "other"]


def test_asking_for_an_unknown_one_says_so():
    with pytest.raises(NotFound, match="nope"):
        templates.wanted(plan(SPECS, "p"), ["nope"])


def present(data_dir, specs) -> None:
    for step in plan(specs, templates.host_platform()):
        (templates.place(data_dir) / step.spec.name / "layers" / step.digest).mkdir(parents=True)


def test_what_is_there_is_not_built_again(tmp_path):
    present(tmp_path, SPECS)
    built = templates.build_templates(tmp_path, SPECS)
    assert built == templates.build_templates(tmp_path, SPECS)
    assert templates.load_all(tmp_path) == sorted(built, key=lambda template: template.name)
    assert templates.load(tmp_path, "child").layers == built[1].layers


def test_no_other_user_of_the_host_reaches_the_set_uid_programs_in_the_layers(tmp_path):
    present(tmp_path, SPECS[:1])
    templates.place(tmp_path).chmod(0o755)
    templates.build_templates(tmp_path, SPECS[:1])
    assert templates.place(tmp_path).stat().st_mode & 0o777 == 0o700


def test_new_words_are_published_without_a_build(tmp_path):
    present(tmp_path, SPECS[:1])
    templates.build_templates(tmp_path, SPECS[:1])
    templates.build_templates(tmp_path, [TemplateSpec("base", description="new")])
    assert templates.load(tmp_path, "base").description == "new"


def test_a_template_that_is_not_built_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        templates.load(tmp_path, "base")
    assert templates.load_all(tmp_path) == []


def test_a_damaged_description_is_said(tmp_path):
    present(tmp_path, SPECS[:1])
    templates.build_templates(tmp_path, SPECS[:1])
    (templates.place(tmp_path) / "base" / "template.json").write_text("{")
    with pytest.raises(InternalError, match="damaged"):
        templates.load(tmp_path, "base")


def test_what_has_a_layer_to_be_built_is_outdated(tmp_path):
    specs = templates.stock_specs()
    present(tmp_path, [spec for spec in specs if spec.name == "busybox"])
    assert templates.outdated(tmp_path, ["base", "busybox"]) == ("base",)
    with pytest.raises(NotFound, match="there are base,"):
        templates.outdated(tmp_path, ["none"])


def test_stock_templates_that_are_not_there_are_known_by_name(tmp_path):
    names = sorted(spec.name for spec in templates.stock_specs())
    assert [each.name for each in templates.unbuilt(tmp_path)] == names
    busybox = [spec for spec in templates.stock_specs() if spec.name == "busybox"]
    present(tmp_path, busybox)
    templates.build_templates(tmp_path, busybox)
    assert "busybox" not in [each.name for each in templates.unbuilt(tmp_path)]


def test_a_build_that_fails_is_remembered(tmp_path, monkeypatch):
    def fail(*_) -> None:
        raise InternalError("no more space")

    monkeypatch.setattr(templates, "build_layer", fail)
    with pytest.raises(InternalError):
        templates.build_templates(tmp_path, [TemplateSpec("base")])
    (base,) = (each for each in templates.unbuilt(tmp_path) if each.name == "base")
    assert base.failure == "no more space"
