from dataclasses import replace

import pytest

from atoll.core.errors import CapacityExceeded, InvalidInput
from atoll.core.limits import LARGEST, RESOURCES, SMALLEST, Limits, Size, sized
from atoll.core.quota import UNLIMITED, Quota, Used, check_quota, used_by
from atoll.core.template import Template

USUAL = Limits(vcpu=2, memory_mib=2048, disk_mib=10240)


def wish(**wished: int) -> Limits:
    return sized(USUAL, wished, SMALLEST, LARGEST)


def test_what_is_not_asked_for_is_the_templates():
    assert wish() == USUAL
    assert wish(vcpu=4) == replace(USUAL, vcpu=4)


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_ends_themselves_may_be_asked_for_and_nothing_beyond(resource: str):
    least, most = getattr(SMALLEST, resource), getattr(LARGEST, resource)
    for allowed in (least, most):
        assert getattr(wish(**{resource: allowed}), resource) == allowed
    for below in (least - 1, 0, -1):
        with pytest.raises(InvalidInput, match=f"{resource}.*{least} to {most}"):
            wish(**{resource: below})
    for above in (most + 1, 10**30):
        with pytest.raises(CapacityExceeded, match=f"{resource} limit") as caught:
            wish(**{resource: above})
        assert caught.value.details == {
            "cause": "size",
            "resource": resource,
            "limit": most,
            "current": 0,
            "available": most,
            "requested": above,
        }


def test_a_template_from_before_there_were_sizes_has_the_usual_ones():
    old = Template("t", "d", ()).to_wire()
    del old["min_size"], old["max_size"]
    assert Template.from_wire(old) == Template("t", "d", ())


def test_a_templates_sizes_cross_the_wire():
    template = Template("t", "d", (), min_size=Size(2, 3, 4), max_size=Size(5, 6, 7))
    assert Template.from_wire(template.to_wire()) == template


# ---- quotas

FULL = Used(sandboxes=3, vcpu=6, memory_mib=6144, disk_mib=30720)


@pytest.mark.parametrize("resource", list(Quota.__dataclass_fields__))
def test_each_resource_may_be_used_up_to_its_limit_and_no_further(resource: str):
    more = used_by(USUAL)
    after = getattr(FULL, resource) + getattr(more, resource)
    check_quota(Quota(**{resource: after}), FULL, more)
    with pytest.raises(CapacityExceeded, match=f"{resource} limit of this API key") as caught:
        check_quota(Quota(**{resource: after - 1}), FULL, more)
    assert caught.value.details == {
        "cause": "quota",
        "resource": resource,
        "limit": after - 1,
        "current": getattr(FULL, resource),
        "available": getattr(more, resource) - 1,
        "requested": getattr(more, resource),
    }


def test_without_a_quota_everything_is_allowed():
    check_quota(UNLIMITED, Used(10**9, 10**9, 10**9, 10**9), used_by(USUAL))


def test_a_quota_that_was_lowered_below_the_use_leaves_nothing_and_not_less():
    with pytest.raises(CapacityExceeded) as caught:
        check_quota(Quota(sandboxes=1), FULL, used_by(USUAL))
    assert caught.value.details["available"] == 0


def test_a_quota_crosses_the_wire_with_its_gaps():
    for quota in (UNLIMITED, Quota(sandboxes=0, disk_mib=5)):
        assert Quota.from_wire(quota.to_wire()) == quota
    assert Quota.from_wire({}) == UNLIMITED
