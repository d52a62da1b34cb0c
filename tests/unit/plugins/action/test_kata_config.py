# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kata_config as a whole: both halves, on the trees of every layout and on Kata's own configuration files.

Only the way between the halves is not Ansible's: a request goes as JSON to the host half in this process, with the tree's folder taken for ``/``.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import stat
from pathlib import Path
from unittest import mock

import pytest
from ansible.playbook.task import Task
from ansible_collections.kataops.aio.plugins.action import journal as journal_action
from ansible_collections.kataops.aio.plugins.action import kata_config as action
from ansible_collections.kataops.aio.plugins.module_utils import _journal
from ansible_collections.kataops.aio.plugins.module_utils import _kata_config as _config_host
from ansible_collections.kataops.aio.plugins.module_utils._change.journal import Journal
from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._kata.collect import collect
from ansible_collections.kataops.aio.plugins.plugin_utils._change import preview
from ansible_collections.kataops.aio.plugins.plugin_utils._kata import releases
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.toml import parse
from ansible_collections.kataops.aio.tests.fixtures.layouts import layouts

SHARE = "/opt/kata/share/defaults/kata-containers"
BASE = SHARE + "/configuration-qemu.toml"
DROP_IN = SHARE + "/config.d/60-kataops-aio.toml"
NATIVE = {"block_device_aio": "native", "block_device_cache_set": True, "block_device_cache_direct": True}
BEFORE = 1_600_000_000_000_000_000


class Host:
    """A host below a folder, and kata_config run against it."""

    def __init__(self, root, layout=None):
        self.root = str(root)
        self.requests = []
        self.meddle = {}  # request -> what somebody else does right before it
        if layout:
            layouts.build(layout, root)
        for path in ("/q", "/opt/kataops/qemu/x/bin/qemu-system-x86_64"):  # what tests give as qemu_path
            layouts.put(root, path, "x")
        for path in Path(self.root).rglob("*"):
            if path.is_file() and not path.is_symlink():
                os.utime(path, ns=(BEFORE, BEFORE))

    def path(self, path):
        return Path(self.root + path)

    def read(self, path):
        return self.path(path).read_text(encoding="utf-8")

    def snapshot(self):
        """Everything but the journal: ``{path: (mode, link target or content, time of change of content)}``."""
        found = {}
        for folder, folders, files in os.walk(self.root):
            for name in folders + files:
                path = Path(folder, name)
                info = path.lstat()
                if "kataops-aio" in path.parts or path == Path(self.root, "var") or path == Path(self.root, "var/lib"):
                    continue
                content = os.readlink(path) if path.is_symlink() else path.read_bytes() if stat.S_ISREG(info.st_mode) else None
                found[str(path)[len(self.root) :]] = (info.st_mode, content, info.st_mtime_ns if stat.S_ISREG(info.st_mode) else None)
        return found

    def _inside(self, request):
        request = json.loads(json.dumps(request))
        request["state_dir"] = self.root + request["state_dir"]
        for change in request.get("changes", []):
            change["name"] = self.root + change["name"]
            change["remove_folders"] = [self.root + folder for folder in change["remove_folders"]]
        if "paths" in request:
            request["paths"] = [self.root + path for path in request["paths"]]
        return request

    def execute(self, module_args, check_mode):
        request = module_args["host_request"]
        self.requests.append(request["do"])
        self.meddle.pop(request["do"], lambda: None)()
        with mock.patch.object(_config_host, "collect", functools.partial(collect, self.root)):
            try:
                result = _config_host.answer(self._inside(request), check_mode)
            except AioError as exc:
                result = dict(exc.as_failure(), failed=True)
        if request["do"] == "collect" and "kata" in result:
            result = dict(json.loads(json.dumps({key: result[key] for key in ("ledger", "pending")}).replace(self.root, "")), kata=result["kata"])
            return json.loads(json.dumps(result))
        return json.loads(json.dumps(result).replace(self.root, ""))

    def run(self, check=False, diff=True, **args):
        """One task; its result."""
        self.requests = []
        if args.get("state") == "rolled_back":
            return self.roll_back(check, diff, **args)
        task = Task()
        task.action, task.args, task.check_mode, task.diff = "kataops.aio.kata_config", args, check, diff
        plugin = action.ActionModule(task, mock.MagicMock(), mock.MagicMock(), mock.MagicMock(), mock.MagicMock(), mock.MagicMock())
        with mock.patch.object(plugin, "_execute_module", side_effect=lambda module_args, module_name, **_: self.module(module_name, module_args, check)):
            result = plugin.run(task_vars={})
        json.dumps(result)
        return result

    #: What QEMU says where it is asked: its status, and the engines that it was built without
    qemu = ("answered", ())

    def module(self, name, module_args, check):
        """A module that the action has the host run."""
        if not name.endswith("qemu_aio_info"):
            return self.execute(module_args, check)
        self.requests.append("qemu")
        status, without = self.qemu
        engines = {engine: {"compiled": engine not in without} for engine in ("threads", "native", "io_uring")}
        return {"qemus": [{"names": [path], "status": status, "reason": None, "engines": engines} for path in module_args["binaries"]]}

    def roll_back(self, check, diff, **args):
        """One task of the module journal; its result, with the names of the files."""

        def host_half(module_args, **_more):
            request = json.loads(json.dumps(module_args["request"]))
            request["edited"] = {self.root + path: edited for path, edited in request.get("edited", {}).items()}
            try:
                result = _journal.roll_back(Journal(self.root + "/var/lib/kataops-aio"), request, check)
            except AioError as exc:
                result = dict(exc.as_failure(), failed=True)
            result["left"] = [
                dict(left, info=json.loads(json.dumps(left["info"]).replace(self.root, ""))) if "info" in left else left for left in result.get("left", [])
            ]
            return json.loads(json.dumps(result).replace(self.root, ""))

        task = Task()
        task.action, task.args, task.check_mode, task.diff = "kataops.aio.journal", dict(args, tools=["kata_config"]), check, diff
        if args.get("transaction") is not None:
            task.args.pop("tools")
        plugin = journal_action.ActionModule(task, mock.MagicMock(), mock.MagicMock(), mock.MagicMock(), mock.MagicMock(), mock.MagicMock())
        with mock.patch.object(plugin, "_execute_module", side_effect=host_half):
            result = plugin.run(task_vars={})
        json.dumps(result)
        return dict(result, files=[shown["name"] for shown in result.get("objects", [])])

    def good(self, **args):
        result = self.run(**args)
        assert not result.get("failed"), result["msg"]
        return result

    def bad(self, **args):
        before = self.snapshot()
        result = self.run(**args)
        assert result.get("failed"), result
        assert self.snapshot() == before
        return result["msg"]

    def runtimes(self):
        return preview.runtimes_by_id(json.loads(json.dumps(collect(self.root))))


@pytest.fixture
def static(tmp_path):
    return Host(tmp_path, layouts.load("static_3_7_0"))


# --- every layout and every shipped file ---------------------------------------------------------------------------------------------------------------


def possible(runtime, engine):
    support = releases.engine_support(runtime["runtime"] or "go", runtime["release"])
    if support["honoured"] is False:
        return engine == support["always"]
    return engine != "native" or support["native"] is not False


def assert_whole_life(host, engine, links=None, **options):
    """Check mode tells the truth, set, set again, unset; set, roll back: byte for byte, also of what no file was before."""
    before = host.snapshot()
    foreseen = host.good(check=True, engine=engine, **options)
    assert host.snapshot() == before
    done = host.good(engine=engine, **options)
    assert done["changed"] == foreseen["changed"] and done["files"] == foreseen["files"] and done["diff"] == foreseen["diff"]
    assert done["runtimes"] == foreseen["runtimes"]
    now = host.runtimes()
    for runtime in done["runtimes"]:
        seen = now[runtime["id"]]
        assert not seen["refused"] and {key: seen["values"][key] for key in runtime["settings"]} == runtime["settings"]
    changed = host.snapshot()
    only_owned_keys_changed(before, changed, done, links or {})
    again = host.good(engine=engine, **options)
    assert again["changed"] is False and again["diff"] == [] and host.snapshot() == changed
    assert host.requests == ["collect"], "a converged host costs one round trip"
    assert host.good(check=True, engine=engine, **options)["changed"] is False
    return before, done


def only_owned_keys_changed(before, after, done, links):
    for path in set(before) | set(after):
        if before.get(path) == after.get(path):
            continue
        if path.endswith("/config.d") and path not in before:
            continue
        mode, content, _time = after[path]
        path_in_result = links.get(os.path.dirname(path), os.path.dirname(path)) + "/" + os.path.basename(path)
        assert path_in_result in done["files"], path
        owned = {key: value for runtime in done["runtimes"] if runtime["path"] == path_in_result for key, value in runtime["settings"].items()}
        assert stat.S_IMODE(mode) == (stat.S_IMODE(before[path][0]) if path in before else 0o644)
        old = parse(before[path][1].decode(), path) if path in before and not path.endswith("60-kataops-aio.toml") else {"hypervisor": {"qemu": {}}}
        old["hypervisor"]["qemu"].update(owned)
        assert parse(content.decode(), path) == old


@pytest.mark.parametrize("method", ["auto", "base_file"])
@pytest.mark.parametrize("engine", ["native", "io_uring", "threads"])
@pytest.mark.parametrize("name", layouts.names())
def test_every_layout(name, engine, method, tmp_path):
    host = Host(tmp_path, layouts.load(name))
    runtimes = [r for r in host.runtimes().values() if r["hypervisor"] == "qemu"]
    if not runtimes:
        assert "no Kata runtime with QEMU" in host.bad(engine=engine)
        return
    impossible = [r for r in runtimes if not possible(r, engine)]
    if impossible:
        words = host.bad(engine=engine, method=method)
        assert "is impossible here" in words and any(r["id"] in words for r in impossible) and "Remedy: use" in words
    chosen = [r["id"] for r in runtimes if possible(r, engine) and not r["refused"]]
    refused = [r for r in runtimes if possible(r, engine) and r["refused"]]
    for runtime in refused:
        assert "Kata refuses the configuration" in host.bad(engine=engine, method=method, runtimes=[runtime["id"]])
    if not chosen:
        return
    result = host.run(check=True, engine=engine, method=method, runtimes=chosen)
    if result.get("failed"):
        # Only where a drop-in that is there outweighs the base file.
        assert method == "base_file" or not all(r["drop_in"]["safe"] for r in runtimes), result["msg"]
        assert "would not have the wanted settings" in result["msg"] and "/config.d/" in result["msg"]
        return
    before, _done = assert_whole_life(host, engine, method=method, runtimes=chosen)
    host.good(state="absent", runtimes=chosen)
    kept = host.snapshot()
    assert {p: s[:2] for p, s in kept.items() if "60-kataops" not in p} == {p: s[:2] for p, s in before.items() if "60-kataops" not in p}
    host.good(state="rolled_back")
    assert host.snapshot() == before
    host.good(engine=engine, method=method, runtimes=chosen)
    host.good(state="rolled_back", runtimes=chosen)
    assert host.snapshot() == before
    assert host.good(state="rolled_back")["changed"] is False


SHIPPED = Path(os.environ.get("KATAOPS_KATA_CONFIGS") or Path(__file__).parents[5] / "shared" / "kata-configs")
FILES = sorted(SHIPPED.glob("*/*/*qemu*.toml")) or [None]


@pytest.mark.parametrize("shape", ["shared", "own"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-3:]) if path else "none")
def test_every_shipped_file(path, shape, tmp_path):
    """Each release × runtime × file, in a folder that is shared with all files of its release (before 3.27), and in one of its own."""
    if path is None:
        pytest.skip("Kata's configuration files are not at hand: set KATAOPS_KATA_CONFIGS to a folder <release>/<go|rs>/*.toml")
    release, kind = path.parts[-3:-1]
    folder = SHARE + ("/runtime-rs" if kind == "rs" else "") + ("" if shape == "shared" else "/runtimes/x")
    shim = "/opt/kata/runtime-rs/bin/containerd-shim-kata-v2" if kind == "rs" else "/opt/kata/bin/containerd-shim-kata-v2"
    files = {"/opt/kata/VERSION": release + "\n", shim: "ELF"}
    for one in path.parent.glob("*.toml") if shape == "shared" else [path]:
        files["%s/%s" % (folder, one.name)] = one.read_bytes().replace(b"PLACEHOLDER_FOR_DISTRO_OVMF_WITH_TDX_SUPPORT", b"/opt/ovmf.fd")
    config = "%s/%s" % (folder, path.name)
    table = 'plugins."io.containerd.cri.v1.runtime".containerd.runtimes.kata-x'
    files["/etc/containerd/config.toml"] = 'version = 3\n[%s]\nruntime_type = "io.containerd.kata-x.v2"\nruntime_path = "%s"\noptions.ConfigPath = "%s"\n' % (
        table,
        shim,
        config,
    )
    host = Host(tmp_path, {"files": files})
    runtime = host.runtimes()[config]
    assert (runtime["runtime"], runtime["release"], runtime["hypervisor"]) == (kind, release, "qemu")
    if "qemu-se-runtime-rs" in path.name and runtime["refused"]:  # it has neither image nor initrd, and is for s390x only
        assert "incomplete_hypervisor" in host.bad(engine="threads", runtimes=["kata-x"])
        return
    if not possible(runtime, "native"):
        assert "is impossible here" in host.bad(engine="native", runtimes=["kata-x"])
        engine = "io_uring" if possible(runtime, "io_uring") else "threads"
    else:
        engine = "native"
    options = {"runtimes": ["kata-x"], "qemu_path": "/opt/kataops/qemu/x/bin/qemu-system-x86_64"}
    before, done = assert_whole_life(host, engine, **options)
    others = [one for one in path.parent.glob("*.toml") if shape == "shared" and kind == "go" and "qemu" not in one.name]
    assert done["runtimes"][0]["method"] == ("base_file" if others or runtime["drop_in"]["safe"] is False else "drop_in")
    host.good(state="absent", runtimes=["kata-x"])
    assert {p: s[:2] for p, s in host.snapshot().items()} == {p: s[:2] for p, s in before.items()}
    host.good(engine=engine, **options)
    host.good(state="rolled_back")
    assert host.snapshot() == before


# --- single promises ------------------------------------------------------------------------------------------------------------------------------------


def test_result_and_diff(static):
    result = static.good(engine="native")
    assert result["files"] == [DROP_IN] and result["transaction"] == 1 and result["notes"] == []
    (runtime,) = result["runtimes"]
    assert runtime == {
        "id": BASE,
        "handlers": ["kata-qemu"],
        "method": "drop_in",
        "path": DROP_IN,
        "settings": NATIVE,
        "before": dict.fromkeys(NATIVE, False) | {"block_device_aio": "native"},
        "after": NATIVE,
        "changed": True,
    }
    effective, text = result["diff"]
    assert "block_device_cache_set = false    (default)" in effective["before"]
    assert "block_device_cache_set = true    (%s)" % DROP_IN in effective["after"]
    assert text["before"] == "" and text["after"] == static.read(DROP_IN)
    assert static.requests == ["collect", "read", "qemu", "apply", "collect"]


def test_keys_that_are_in_effect_already_need_no_drop_in(static):
    layouts.put(
        static.root,
        SHARE + "/config.d/20-site.toml",
        "[hypervisor.qemu]\nblock_device_aio='native'\nblock_device_cache_set=true\nblock_device_cache_direct=true\n",
    )
    result = static.good(engine="native")
    assert result["changed"] is False and not static.path(DROP_IN).exists() and static.requests == ["collect"]
    assert static.good(engine="threads")["files"] == [DROP_IN]
    assert static.good(engine="native")["files"] == [DROP_IN]
    assert static.good(engine="native")["changed"] is False


def test_an_engine_owns_only_what_it_needs(static):
    static.good(engine="native", settings={"block_device_driver": "virtio-blk"}, qemu_path="/q")
    assert static.runtimes()[BASE]["values"]["path"] == "/q"
    static.good(engine="threads")
    assert parse(static.read(DROP_IN), "f") == {"hypervisor": {"qemu": {"block_device_aio": "threads"}}}
    assert static.runtimes()[BASE]["values"]["block_device_driver"] == "virtio-scsi"


class HostText(str):
    """As ansible-core before 2.19 marks a text that came from a host: equal to a plain one, of another type, and ``str()`` does not change that."""

    def __str__(self):  # pylint: disable=invalid-str-returned
        return self


@pytest.mark.parametrize("method", ["drop_in", "base_file"])
def test_texts_that_came_from_a_host(static, method):
    wanted = {"engine": HostText("native"), "qemu_path": HostText("/q"), "settings": {HostText("block_device_driver"): HostText("virtio-blk")}}
    static.good(per_runtime=[{"runtimes": [HostText(BASE)], "method": HostText(method), **wanted}])
    assert static.runtimes()[BASE]["values"]["path"] == "/q"
    assert static.good(per_runtime=[{"runtimes": [HostText(BASE)], "method": HostText(method), **wanted}])["changed"] is False


def test_settings_go_before_the_engine(static):
    static.good(
        engine="native",
        settings={"block_device_cache_direct": False, "default_vcpus": 2},
        method="base_file",
        runtimes=["kata-qemu"],
        check=True,
        diff=False,
    )
    result = static.good(engine="native", settings={"block_device_cache_direct": False})
    assert result["runtimes"][0]["after"] == dict(NATIVE, block_device_cache_direct=False)


def test_the_method_moves_over_in_one_transaction(static):
    before = static.snapshot()
    static.path(SHARE + "/config.d/20-site.toml").unlink()
    without = static.snapshot()
    static.good(engine="native")
    result = static.good(engine="native", method="base_file")
    assert sorted(result["files"]) == sorted([BASE, DROP_IN]) and not static.path(DROP_IN).exists()
    assert static.good(engine="native", method="base_file")["changed"] is False
    assert static.good(engine="native")["changed"] is False
    result = static.good(engine="native", method="drop_in")
    assert sorted(result["files"]) == sorted([BASE, DROP_IN])
    assert static.snapshot()[BASE][1] == before[BASE][1]
    static.good(state="rolled_back")
    assert static.snapshot() == without


def test_a_key_that_go_may_not_know_goes_into_the_base_file(static):
    layouts.put(static.root, SHARE + "/config.d/20-site.toml", "")
    result = static.good(engine="native", settings={"no_such_key": 1})
    assert result["files"] == [BASE] and "no known release of the Go runtime has the key no_such_key" in result["notes"][0]
    assert "no_such_key" in static.bad(engine="native", settings={"no_such_key": 1}, method="drop_in")
    assert "nothing shows that this release" in static.bad(engine="native", settings={"enable_numa": True}, method="drop_in")


def test_a_key_of_the_base_file_that_discovery_does_not_keep(static):
    layouts.put(static.root, BASE, static.read(BASE).replace("[agent.kata]", "default_vcpus = 1\n[agent.kata]"))
    result = static.good(settings={"default_vcpus": 4})
    assert result["runtimes"][0]["before"] == {"default_vcpus": 1} and result["runtimes"][0]["after"] == {"default_vcpus": 4}
    assert static.good(settings={"default_vcpus": 4})["changed"] is False
    assert static.good(settings={"default_vcpus": 1}, method="base_file")["files"] == [DROP_IN]


def test_a_later_drop_in_wins_and_is_named(static):
    layouts.put(static.root, SHARE + "/config.d/90-last.toml", '[hypervisor.qemu]\nblock_device_aio = "threads"\n')
    words = static.bad(engine="native")
    assert "block_device_aio is 'threads' instead of 'native', by %s/config.d/90-last.toml" % SHARE in words and "drop_in_name" in words
    assert static.good(engine="native", drop_in_name="95-kataops-aio.toml")["changed"] is True
    assert static.good(engine="native", drop_in_name="96-kataops-aio.toml")["files"] == [
        SHARE + "/config.d/95-kataops-aio.toml",
        SHARE + "/config.d/96-kataops-aio.toml",
    ]
    assert not static.path(SHARE + "/config.d/95-kataops-aio.toml").exists()


def test_what_breaks_kata_already_is_not_built_upon(static):
    layouts.put(static.root, SHARE + "/config.d/README.md", "This is prose.")
    assert "config.d/README.md" in static.bad(engine="native")
    assert "not valid TOML" in static.bad(engine="native", method="base_file")


def test_a_change_that_mends_the_configuration(static):
    layouts.put(static.root, BASE, static.read(BASE).replace('"/opt/kata/bin/qemu-system-x86_64"\nkernel', '"PLACEHOLDER"\nkernel'))
    assert static.runtimes()[BASE]["refused"]
    assert static.good(engine="native", qemu_path="/opt/kata/bin/qemu-system-x86_64")["changed"]
    assert not static.runtimes()[BASE]["refused"]


@pytest.fixture
def two(tmp_path):
    """Two QEMU runtimes that read one config.d."""
    layout = layouts.load("static_3_7_0")
    layout["files"][SHARE + "/configuration-qemu-snp.toml"] = layout["files"][BASE]
    text = layout["files"]["/etc/containerd/config.toml"]
    part = text[text.index('  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-qemu]') :]
    layout["files"]["/etc/containerd/config.toml"] = text + part.replace("kata-qemu]", "kata-snp]").replace("kata-qemu.", "kata-snp.").replace(
        "configuration-qemu", "configuration-qemu-snp"
    )
    layout["files"][SHARE + "/config.d/20-site.toml"] = ""
    return Host(tmp_path, layout)


def test_a_shared_folder_takes_a_drop_in_only_for_all_its_readers(two):
    snp = SHARE + "/configuration-qemu-snp.toml"
    assert two.good(engine="native", check=True)["files"] == [DROP_IN]
    result = two.good(engine="native", runtimes=["kata-snp"])
    assert result["files"] == [snp] and "reads the same config.d, and is not to be changed" in result["notes"][0]
    assert two.runtimes()[BASE]["values"]["block_device_aio"] == "io_uring"
    assert "is not to be changed" in two.bad(engine="native", runtimes=["kata-qemu"], method="drop_in")
    assert two.good(engine="native")["files"] == [BASE]
    assert sorted(two.good(engine="native", method="drop_in")["files"]) == sorted([BASE, DROP_IN, snp])


def test_different_settings_in_one_transaction_all_or_none(two):
    before = two.snapshot()
    wanted = [{"runtimes": ["kata-qemu"], "engine": "native"}, {"runtimes": ["kata-snp"], "settings": {"block_device_aio": "threads"}}]
    snp = SHARE + "/configuration-qemu-snp.toml"
    two.meddle["apply"] = lambda: layouts.put(two.root, snp, "# theirs\n" + before[snp][1].decode())
    result = two.run(per_runtime=wanted)
    assert "another process changed this in the meantime" in result["msg"]
    assert two.snapshot()[BASE] == before[BASE] and two.read(snp).startswith("# theirs\n")
    result = two.good(per_runtime=wanted)
    assert sorted(result["files"]) == sorted([BASE, snp]) and result["transaction"] == 1
    assert [two.runtimes()[path]["values"]["block_device_aio"] for path in (BASE, snp)] == ["native", "threads"]
    assert two.good(per_runtime=wanted)["changed"] is False
    two.good(state="rolled_back", runtimes=["kata-snp"])
    assert two.read(snp).startswith("# theirs\n") and two.runtimes()[BASE]["values"]["block_device_aio"] == "native"
    assert two.runtimes()[snp]["values"]["block_device_aio"] == "io_uring"


def test_a_drop_in_of_two_runtimes_goes_for_both(two):
    two.good(engine="native")
    for state in ("absent", "rolled_back"):
        assert "other runtimes, too" in two.bad(state=state, runtimes=["kata-snp"])
    two.good(state="absent")
    assert not two.path(DROP_IN).exists()


def test_what_is_read_back_decides(static):
    """Somebody adds a drop-in between the write and the second look: the transaction is taken back."""
    before = static.snapshot()
    looks = []

    def second_look():
        looks.append(1)
        if len(looks) == 1:
            static.meddle["collect"] = second_look
            return
        layouts.put(static.root, SHARE + "/config.d/99-theirs.toml", '[hypervisor.qemu]\nblock_device_aio = "threads"\n')

    static.meddle["collect"] = second_look
    result = static.run(engine="native")
    assert "is not in effect, so it was reverted" in result["msg"] and "99-theirs.toml" in result["msg"]
    assert static.requests == ["collect", "read", "qemu", "apply", "collect", "revert"]
    static.path(SHARE + "/config.d/99-theirs.toml").unlink()
    assert static.snapshot() == before


def test_an_interrupted_run_is_settled_first(static):
    def crash(*_args):
        raise KeyboardInterrupt

    with mock.patch("ansible_collections.kataops.aio.plugins.module_utils._change.files.apply", crash), mock.patch(
        "ansible_collections.kataops.aio.plugins.module_utils._change.transaction._revert"
    ), pytest.raises(KeyboardInterrupt):
        static.run(engine="native")
    assert [path for path in static.snapshot() if ".kataops-aio-" in path]
    result = static.good(engine="native", check=True)
    assert result["changed"] and "would settle it first" in result["notes"][0]
    result = static.good(engine="native")
    assert result["recovered"] == [{"seq": 1, "outcome": "reverted", "names": [DROP_IN], "reason": None}] and result["transaction"] == 2
    assert not [path for path in static.snapshot() if ".kataops-aio-" in path]


def shared(host):
    """A host on which the base file is edited."""
    layouts.put(host.root, SHARE + "/config.d/20-site.toml", "")
    return host.read(BASE)


def test_rollback_takes_only_our_part_out_of_a_base_file_that_was_edited_since(static):
    before = shared(static)
    static.good(engine="native", method="base_file")
    layouts.put(static.root, BASE, static.read(BASE) + "# theirs\n")
    foreseen = static.good(state="rolled_back", check=True)
    assert foreseen["changed"] and foreseen["files"] == [BASE] and foreseen["diff"][0]["after"] == before + "# theirs\n"
    result = static.good(state="rolled_back")
    assert result["files"] == [BASE] and "only our part is taken out" in "".join(result["notes"])
    assert static.read(BASE) == before + "# theirs\n"
    assert static.good(state="rolled_back")["changed"] is False


def test_rollback_with_force_keeps_what_it_overrides(static):
    before = shared(static)
    static.good(engine="native", method="base_file")
    layouts.put(static.root, BASE, static.read(BASE) + "# theirs\n")
    result = static.good(state="rolled_back", force=True)
    assert "kept in the journal" in result["notes"][0] and static.read(BASE) == before


def test_an_edit_between_two_changes_of_ours_never_brings_our_own_keys_back(static):
    before = shared(static)
    for engines in (["native", "threads"], ["native", "threads", "native"], ["threads", "native"]):
        for state in ("rolled_back", "absent"):
            for number, engine in enumerate(engines):
                static.good(engine=engine, method="base_file")
                if number == 0:
                    layouts.put(static.root, BASE, static.read(BASE) + "# theirs\n")
            static.good(state=state)
            assert static.read(BASE) == before + "# theirs\n", (engines, state)
            assert static.good(state=state)["changed"] is False
            layouts.put(static.root, BASE, before)


def test_a_base_file_of_a_newer_release_stays_at_rollback(static):
    """kata-deploy copied its file over ours: nothing of ours is there, and the old release's file must not come back."""
    shared(static)
    static.good(engine="native", method="base_file")
    newer = "# a newer release\n" + layouts.load("static_3_7_0")["files"][BASE]
    layouts.put(static.root, BASE, newer)
    for _turn in range(2):
        result = static.good(state="rolled_back")
        assert result["changed"] is False and static.read(BASE) == newer
    assert static.good(state="rolled_back", force=True)["changed"] is False and static.read(BASE) == newer


def test_a_base_file_that_kata_deploy_moved_does_not_keep_the_rest_from_rolling_back(static):
    shared(static)
    static.good(engine="native", method="base_file")
    moved = SHARE + "/runtimes/qemu/configuration-qemu.toml"
    layouts.put(static.root, moved, layouts.load("static_3_7_0")["files"][BASE])
    static.path(BASE).unlink()
    static.path(BASE).symlink_to(os.path.relpath(static.path(moved), static.path(SHARE)))
    fresh = static.read(moved)
    result = static.good(engine="native", method="base_file")
    assert result["files"] == [moved]
    static.good(state="rolled_back")
    assert static.read(moved) == fresh and static.path(BASE).is_symlink()
    assert static.good(state="rolled_back")["changed"] is False


def test_a_key_that_was_added_to_our_drop_in_stays(static):
    static.good(engine="native", method="drop_in")
    layouts.put(static.root, DROP_IN, static.read(DROP_IN) + "default_vcpus = 3\n")
    static.good(state="rolled_back")
    assert "default_vcpus = 3" in static.read(DROP_IN) and "block_device_aio" not in static.read(DROP_IN)


def test_a_comment_in_our_drop_in_does_not_keep_it(static):
    static.good(engine="native", method="drop_in")
    layouts.put(static.root, DROP_IN, static.read(DROP_IN) + "# looked at on Monday\n")
    static.good(state="rolled_back")
    assert not static.path(DROP_IN).exists()


def test_what_cannot_be_told_apart_is_left_and_named(static):
    static.good(engine="native", method="drop_in")
    layouts.put(static.root, DROP_IN, static.read(DROP_IN) + "not = = toml\n")
    now = static.snapshot()
    result = static.run(state="rolled_back")
    assert result["failed"] and DROP_IN in result["msg"] and "+not = = toml" in result["difference"] and "force: true" in result["msg"]
    assert static.run(state="rolled_back", check=True)["failed"]
    assert static.snapshot() == now
    static.good(state="rolled_back", force=True)
    assert not static.path(DROP_IN).exists()


def test_rollback_in_check_mode_changes_nothing(static):
    static.good(engine="native")
    now = static.snapshot()
    result = static.good(state="rolled_back", check=True)
    assert result["changed"] and result["files"] == [DROP_IN] and result["diff"][0]["after"] == ""
    assert static.snapshot() == now


def test_rollback_does_not_need_a_configuration_that_can_be_read(static):
    before = static.snapshot()
    static.good(engine="native")
    layouts.put(static.root, BASE, "not = = toml")
    static.good(state="rolled_back")
    assert not static.path(DROP_IN).exists() and static.path(SHARE + "/config.d").is_dir() and DROP_IN not in before


def test_a_file_of_our_name_that_is_not_ours(static):
    theirs = '# mine\n[hypervisor.qemu]\nblock_device_aio = "threads"\n'
    layouts.put(static.root, DROP_IN, theirs)
    assert "we did not write it" in static.bad(state="absent")
    assert static.good(engine="native")["changed"]
    static.good(state="rolled_back")
    assert static.read(DROP_IN) == theirs
    assert static.good(state="absent", force=True)["changed"] and not static.path(DROP_IN).exists()


def test_our_drop_in_without_a_journal(static):
    static.good(engine="native")
    for path in Path(static.root, "var/lib/kataops-aio/journal").iterdir():
        path.unlink()
    assert static.good(engine="native")["changed"] is False
    assert static.good(state="absent")["files"] == [DROP_IN]


def test_absent_where_there_is_nothing(static, tmp_path_factory):
    assert static.good(state="absent")["changed"] is False
    assert Host(tmp_path_factory.mktemp("empty")).good(state="absent")["changed"] is False
    assert Host(tmp_path_factory.mktemp("empty")).good(state="rolled_back")["changed"] is False


def test_a_base_file_that_was_copied_anew_is_edited_anew(static):
    """kata-deploy copies its file over ours at every installation; a rollback then brings that new file back."""
    layouts.put(static.root, SHARE + "/config.d/20-site.toml", "")
    static.good(engine="native", method="base_file")
    newer = "# a newer release\n" + layouts.load("static_3_7_0")["files"][BASE]
    layouts.put(static.root, BASE, newer)
    assert static.good(engine="native", method="base_file")["changed"]
    static.good(state="rolled_back")
    assert static.read(BASE) == newer


def test_a_config_d_that_is_a_symlink(tmp_path):
    layout = layouts.load("static_3_7_0")
    layout["files"]["/etc/kata-dropins/20-site.toml"] = layout["files"].pop(SHARE + "/config.d/20-site.toml")
    layout["links"][SHARE + "/config.d"] = "/etc/kata-dropins"
    host = Host(tmp_path, layout)
    host.path(SHARE + "/config.d").unlink()
    host.path(SHARE + "/config.d").symlink_to(os.path.relpath(host.path("/etc/kata-dropins"), host.path(SHARE)))
    assert_whole_life(host, "native", links={"/etc/kata-dropins": SHARE + "/config.d"})
    assert host.path("/etc/kata-dropins/60-kataops-aio.toml").is_file()


def test_a_symlink_in_the_place_of_our_drop_in(static):
    static.path(DROP_IN).symlink_to("20-site.toml")
    assert "this is a symlink" in static.bad(engine="native") and "move it away" in static.bad(engine="native")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, "nothing is wanted"),
        ({"engine": "posix"}, "value of engine must be one of"),
        ({"engine": "native", "runtimes": ["kata-clh"]}, "no such Kata runtime.*one of .*kata-qemu"),
        ({"engine": "native", "drop_in_name": ".hidden.toml"}, "no name for a drop-in"),
        ({"engine": "native", "drop_in_name": "../x.toml"}, "no name for a drop-in"),
        ({"engine": "native", "drop_in_name": "60-kataops-aio"}, "no name for a drop-in"),
        ({"engine": "native", "drop_in_name": "50-user-overrides.toml"}, "kata-deploy owns names"),
        ({"engine": "native", "qemu_path": "qemu"}, "no absolute path"),
        ({"engine": "native", "host_request": {"do": "apply"}}, "not for tasks"),
        ({"engine": "native", "state_dir": "x"}, "absolute path"),
        ({"settings": {"a b": 1}}, "no key of a hypervisor"),
        ({"settings": {"block_device_aio\n": "threads"}}, "no key of a hypervisor"),
        ({"engine": "native", "drop_in_name": "60-x.toml\n"}, "no name for a drop-in"),
        ({"settings": {"block_device_cache_set": "yes"}}, "wrong_type"),
        ({"settings": {"block_device_aio": "posix"}}, "invalid_aio"),
        ({"per_runtime": [{"runtimes": ["kata-qemu"]}]}, "nothing is wanted"),
        ({"per_runtime": [{"runtimes": ["kata-qemu"], "engine": "native"}, {"runtimes": [BASE], "engine": "threads"}]}, "asked for twice"),
        ({"per_runtime": [{"runtimes": ["kata-qemu"], "engine": "native"}], "engine": "native"}, "mutually exclusive"),
        ({"per_runtime": [{"runtimes": ["kata-qemu"], "engine": "native"}], "runtimes": ["kata-qemu"]}, "exclude each other"),
    ],
)
def test_bad_arguments(static, args, words):
    before = static.snapshot()
    try:
        result = static.run(**args)
    except Exception as exc:  # Ansible's own check of the options raises
        result = {"failed": True, "msg": str(exc)}
    assert result.get("failed") and re.search(words, result["msg"], re.DOTALL), result
    assert static.snapshot() == before


def test_the_host_half_alone_refuses():
    with pytest.raises(AioError, match="only together with its action plugin"):
        _config_host.answer(None, False)
    for do in ("apply", "revert", "recover"):
        with pytest.raises(AioError, match="check mode"):
            _config_host.answer({"do": do, "state_dir": "/nonexistent"}, True)


def test_contents_travel_as_base64(static):
    layouts.put(static.root, BASE, static.read(BASE) + "# \u00e9\n")
    content = _config_host.answer({"do": "read", "state_dir": static.root + "/s", "paths": [static.root + BASE]}, False)["contents"]
    assert base64.b64decode(content[static.root + BASE]["present_b64"]).decode() == static.read(BASE)


@pytest.mark.parametrize("qemu", [("missing", ()), ("not_executable", ()), ("answered", ("native",))])
def test_a_qemu_that_cannot_serve_is_refused_before_anything_is_written(static, qemu):
    static.qemu = qemu
    words = static.bad(engine="native")
    assert "nothing was written" in words and "verify_qemu: false" in words and "/opt/kata/bin/qemu" in words
    assert static.good(engine="native", verify_qemu=False)["changed"]
    assert static.good(engine="native")["changed"] is False and "qemu" not in static.requests, "what stands already is not asked for again"


def test_threads_needs_no_answer_of_a_qemu(static):
    static.qemu = ("missing", ())
    assert static.good(engine="threads")["changed"] and "qemu" not in static.requests
