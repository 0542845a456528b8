"""``gossamer profile compare`` of two devices, and of a device with a bundle measured here, over real agents."""

from __future__ import annotations

from tests.agent.agentkit import agent


def test_two_devices(cli, own, tmp_path, bundles):
    bundle = tmp_path / "one.goss"
    bundle.write_bytes(bundles("1", 1))
    with agent(tmp_path / "a") as one, agent(tmp_path / "b") as two:
        for name, made in (("one", one), ("two", two)):
            assert cli("device", "add", name, "--address", made.address).code == 0
            assert cli("device", "flash", bundle, "-d", name).code == 0
        ran = cli("profile", "compare", "device:one", "device:two", "--runs", 12, "--json")
        assert ran.code == 0 and [ran.json[s]["label"] for s in "ab"] == ["device:one", "device:two"]
        assert all(op["a"]["kernel"] == op["b"]["kernel"] for op in ran.json["ops"])
        a, b = ran.json["a"], ran.json["b"]
        assert a["runs"] == 12 and ran.json["ratios"]["median_ratio"] == b["median_us"] / a["median_us"]
        ran = cli("profile", "compare", bundle, "device:two", "--runs", 3)
        assert ran.code == 0 and f"A: {bundle}" in ran.out and "B: device:two" in ran.out
        ran = cli("profile", "compare", bundle, "device:two", "--runs", 2, "--rounds", 3, "--json")
        assert ran.code == 0 and ran.json["rounds"]["count"] == 3 and ran.json["b"]["runs"] == 6
    assert cli("profile", "compare", bundle, "device:two", "--runs", 1).code == 17
