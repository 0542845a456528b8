"""``gossamer device`` over gRPC and on a mounted card: what it says, its JSON, its exit codes."""

from __future__ import annotations

import io
import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from gossamer.cli._transfer import TransferBar, clock
from gossamer_runtime.agent import active_bundle
from gossamer_runtime.agent._child import Child
from gossamer_runtime.agent._slots import open_folder
from tests.agent.agentkit import agent


def test_over_grpc(cli, own, tmp_path, files, work, other_key, bundles):
    one, two, old = files
    with agent(tmp_path / "slots") as made:
        added = cli("device", "add", "pi", "--address", made.address)
        assert added.code == 0 and added.out.startswith(f"added pi: {made.address} (")
        assert json.loads((own / "devices.json").read_text()) == {"devices": {"pi": {"address": made.address}}}
        ran = cli("device", "doctor")
        assert ran.code == 22 and "no bundle runs yet" in ran.out
        ran = cli("device", "flash", one)
        assert ran.code == 0 and ran.out.startswith(f"committed {one} in slot a (")
        assert ran.err.startswith(f"flash: {one.stat().st_size} bytes in ")
        ran = cli("device", "flash", one, "-d", "pi", "--json")
        assert (ran.code, ran.json["status"], ran.json["exit_code"]) == (19, "unchanged", 19)
        assert cli("device", "rollback").code == 22
        ran = cli("device", "flash", two, "--stage")
        assert ran.code == 0 and "'gossamer device activate' tries and commits it" in ran.out
        assert cli("device", "activate", "-q").code == 2  # no such option
        assert cli("device", "activate").out.startswith("committed the staged bundle in slot b")
        assert cli("device", "rollback").out.startswith("committed the bundle before in slot a")
        ran = cli("device", "flash", old, "--json")
        error = json.loads(ran.err)["error"]
        assert ran.code == 21 and error["type"] == "OlderBundleError"
        assert error["message"] == "the bundle's rollback counter is 0, the device's 1"
        unknown = tmp_path / "unknown.goss"
        unknown.write_bytes(bundles("4", 1, key=other_key))
        ran = cli("device", "flash", unknown)
        assert ran.code == 9 and "which is not among the" in ran.err
        info = cli("device", "info", "--json").json
        assert [(s["slot"], s["status"], s.get("version")) for s in info["slots"]] == [
            ("a", "active", "1"), ("b", "previous", "2"),
        ]  # fmt: skip
        text = cli("device", "info").out
        assert "rollback counter  1\n" in text and "active" in text
        photo = work.photos / "picture0.png"
        here, there = cli("run", one, "-i", photo, "--json").json, cli("device", "run", "-i", photo, "--json").json
        assert there["results"][0]["outputs"] == here["results"][0]["outputs"]
        ran = cli("device", "run", "-i", photo, "-o", tmp_path / "out.npz")
        assert ran.code == 0 and "%" in ran.out
        assert np.load(tmp_path / "out.npz")["scores"].shape == (1, 1, 5)
        ran = cli("device", "profile", "--runs", 3, "--json", "--chrome-trace", tmp_path / "trace.json")
        assert ran.json["latency"]["runs"] == 3 and ran.json["ops"]
        assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
        assert "median us" in cli("device", "profile", "--runs", 2, "-i", photo).out
        ran = cli("device", "logs", "--json", "-n", 1)
        assert json.loads(ran.out)["level"] in ("INFO", "WARNING")
        assert "committed" in cli("device", "logs").out
        ran = cli("device", "flash", two, "-i", photo, "-d", made.address)
        assert ran.code == 0, ran.err
        ran = cli("device", "doctor", "--json")
        assert ran.code == 0 and [c["check"] for c in ran.json["checks"]] == [
            "reached", "runtime", "native core", "keys", "slots", "space", "run",
        ]  # fmt: skip
        ran = cli("device", "list", "--check", "--json")
        assert ran.json["devices"] == [{"name": "pi", "transport": "grpc", "at": made.address, "running": "small 2"}]
    ran = cli("device", "info")
    assert ran.code == 17 and "the device does not answer" in ran.err
    assert cli("device", "doctor").code == 17
    assert cli("device", "remove", "pi").code == 0
    assert cli("device", "list").out.endswith("no devices; add one with 'gossamer device add'\n")


def test_on_a_card(cli, own, tmp_path, files):
    one, two, old = files
    card = tmp_path / "card"
    card.mkdir()
    ran = cli("device", "flash", one, "--root", card)
    assert ran.code == 0 and "the device tries it when it starts" in ran.out
    assert [s["status"] for s in cli("device", "info", "--root", card, "--json").json["slots"]] == ["trial", "empty"]
    device = open_folder(card, Child)  # the device starts
    assert Path(device.bundle()).read_bytes() == one.read_bytes()
    assert cli("device", "info", "--root", card).code == 22  # while it is on
    device.close()
    assert cli("device", "flash", one, "--root", card).code == 19
    assert cli("device", "flash", old, "--root", card).code == 21
    assert cli("device", "flash", two, "--root", card, "--json").json["status"] == "waiting"
    assert Path(active_bundle(card)).read_bytes() == one.read_bytes()
    device = open_folder(card, Child)
    assert Path(device.bundle()).read_bytes() == two.read_bytes()
    device.close()
    assert cli("device", "rollback", "--root", card).code == 0
    device = open_folder(card, Child)
    assert Path(device.bundle()).read_bytes() == one.read_bytes()
    device.close()
    assert cli("device", "doctor", "--root", card).code == 0
    for what in ("profile", "logs"):
        ran = cli("device", what, "--root", card)
        assert ran.code == 4 and "card" in ran.err
    assert cli("device", "add", "card", "--root", card).code == 0
    assert cli("device", "list", "--json").json["devices"] == [{"name": "card", "transport": "card", "at": str(card)}]


def test_a_card_signed_by_an_unknown_key_or_tampered(cli, own, tmp_path, bundles, other_key):
    card = tmp_path / "card"
    card.mkdir()
    bad = tmp_path / "bad.goss"
    bad.write_bytes(bundles("1", key=other_key))
    assert cli("device", "flash", bad, "--root", card).code == 9
    data = bytearray(bundles("1"))
    data[5000] ^= 1
    bad.write_bytes(data)
    assert cli("device", "flash", bad, "--root", card).code == 9
    assert sorted(p.name for p in card.iterdir()) == ["lock"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("name", ["lock", "slot-a.goss"])
def test_a_card_whose_links_lead_elsewhere(cli, own, tmp_path, bundles, link, name):
    card, bundle, mine = tmp_path / "card", tmp_path / "one.goss", tmp_path / "mine"
    card.mkdir()
    bundle.write_bytes(bundles("1"))
    mine.write_text("a file of this machine")
    link(mine, card / name)
    ran = cli("device", "flash", bundle, "--root", card)
    assert ran.code == 22 and f"the card's {name} is a link" in ran.err
    assert mine.read_text() == "a file of this machine" and [p.name for p in card.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["info"], 10, "which device?"),
        (["info", "-d", "nobody"], 10, "no device is called 'nobody'"),
        (["info", "-d", "x", "--root", "/"], 2, "exclude each other"),
        (["info", "--root", "/no/such"], 10, "there is no such folder"),
        (["info", "-d", "h:1", "--cert", "/c"], 10, "--cert and --key need each other"),
        (["info", "-d", "h:1", "--token-file", "/none"], 10, "cannot read the token file"),
        (["add", "-x", "--address", "h:1"], 2, ""),
        (["add", "a b", "--address", "h:1", "--offline"], 10, "is not a name for a device"),
        (["add", "a", "--address", "h", "--offline"], 10, "is not HOST:PORT"),
        (["add", "a", "--offline"], 10, "has an address, a root or an adb serial number"),
        (["remove", "a"], 10, "no device is called 'a'"),
    ],
)
def test_wrong_usage(cli, home, arguments, code, words):
    ran = cli("device", *arguments)
    assert ran.code == code and words in ran.err


def test_an_address_where_nobody_listens_is_not_added(cli, home):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    ran = cli("device", "add", "pi", "--address", address, "--json")
    assert ran.code == 17 and json.loads(ran.err)["error"]["type"] == "UnreachableError"
    assert cli("device", "list", "--json").json == {"devices": []}
    assert cli("device", "add", "pi", "--address", address, "--offline").code == 0
    (home / "devices.json").write_text("{")
    assert "the list of devices is damaged" in cli("device", "list").err


def test_the_bar_counts_rate_and_time_left_from_where_it_went_on():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out = Terminal()
    bar = TransferBar("flash", stream=out)
    bar(1_000_000, 4_000_000)
    bar._last = (2_000_000, 4_000_000)
    assert bar.line(bar._began + 0.5) == ("[##########..........]  50% flash 2.0/4.0 MB  2.00 MB/s  0:01 left")
    bar(4_000_000, 4_000_000)
    bar.close()
    assert "100% flash 4.0/4.0 MB" in out.getvalue()
    assert [clock(s) for s in (0, 59.6, 61, 3723)] == ["0:00", "1:00", "1:01", "1:02:03"]


def test_the_rollback_counter_comes_from_optimize(cli, own, work, tmp_path):
    import gossamer
    from gossamer_runtime import InputError, Session

    out = tmp_path / "counted.goss"
    made = ["optimize", work.model, "-r", work.recipe, "-c", work.photos, "-o", out, "-q"]
    assert cli(*made, "--rollback-counter", 7).code == 0
    with Session(out) as session:
        assert session.manifest["rollback_counter"] == 7
    with pytest.raises(InputError, match="rollback_counter must be from 0 to 4294967295, not -1"):
        gossamer.optimize(work.model, "dense-int8", rollback_counter=-1)
    searched = cli(*made, "--rollback-counter", 7, "--latency-ms", 1, "--eval-data", tmp_path)
    assert searched.code == 2 and "--rollback-counter cannot be combined with a search" in searched.err
