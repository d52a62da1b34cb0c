# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both halves of discovery on fixture trees: each layout × release × runtime says for itself what must be found (tests/fixtures/layouts)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kataops.aio.plugins.module_utils._kata.collect import collect
from ansible_collections.kataops.aio.plugins.plugin_utils._judge.assess import assess
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.discover import discover, missing_documents
from ansible_collections.kataops.aio.plugins.plugin_utils._kata.documents import unpack
from ansible_collections.kataops.aio.tests.fixtures.layouts import layouts
from ansible_collections.kataops.aio.tests.unit.plugins.plugin_utils import observed as o

SHARE = "/opt/kata/share/defaults/kata-containers"


def observe(root, **more):
    """Both round trips, through JSON as on the wire."""
    kata = json.loads(json.dumps(collect(str(root), **more)))
    wanted = missing_documents(kata)
    if wanted:
        kata = json.loads(json.dumps(collect(str(root), wanted=wanted, **more)))
    assert missing_documents(kata) == []
    return kata


def find(root, name, **more):
    layout = layouts.load(name)
    return discover(observe(layouts.build(layout, root), **more))


def assert_contains(got, wanted, where):
    for key, value in wanted.items():
        if key == "codes":
            assert {problem["code"] for problem in got["problems"]} == set(value), where
        elif key == "reason" and "id" in wanted:
            assert value in got["drop_in"]["reason"], where
        elif isinstance(value, dict):
            assert_contains(got[key], value, where + "." + key)
        else:
            assert got[key] == value, where + "." + key


@pytest.mark.parametrize("name", layouts.names())
def test_layout(name, tmp_path):
    layout = layouts.load(name)
    runtimes = discover(observe(layouts.build(layout, tmp_path)))
    assert [runtime["id"] for runtime in runtimes] == [wanted["id"] for wanted in layout["expect"]]
    for runtime, wanted in zip(runtimes, layout["expect"]):
        assert_contains(runtime, wanted, wanted["id"])


@pytest.mark.parametrize("harm", ["none", "folder", "toml", "misnamed"])
@pytest.mark.parametrize("name", layouts.names())
def test_whatever_kata_refuses_is_an_error_and_broken(name, harm, tmp_path):
    """Every layout as it is, and with something in each runtime's way that Kata refuses: discovery's word never gets lost on the way to the verdict."""
    root = Path(layouts.build(layouts.load(name), tmp_path))
    for runtime in discover(observe(root)):
        base = root / (runtime["config"]["real_path"] or "/none").lstrip("/")
        if harm == "folder" and base.is_file():
            (base.parent / "config.d" / "old").mkdir(parents=True, exist_ok=True)
        elif harm == "toml" and base.is_file():
            base.write_text("[hypervisor.qemu\n")
        elif harm == "misnamed" and base.is_file():
            base.write_text(base.read_text().replace("[hypervisor.qemu]", "[hypervisor.QEMU]").replace("[hypervisor.clh]", "[hypervisor.foo]"))
    runtimes = discover(observe(root))
    judged = assess(o.observations(), runtimes, o.policy())
    for runtime in runtimes:
        own = [found for found in judged["findings"] if found["runtime"] == runtime["id"] and found["severity"] == "error"]
        if runtime["refused"] or runtime["hypervisor"] in ("QEMU", "foo"):
            assert own, runtime["problems"]
            assert judged["verdicts"][runtime["id"]] == "broken"


def test_first_round_trip_is_enough_for_what_installers_write(tmp_path):
    for name in layouts.names():
        root = layouts.build(layouts.load(name), tmp_path / name)
        assert missing_documents(collect(root)) == [], name


def test_second_round_trip_fetches_what_hints_miss(tmp_path):
    layout = layouts.load("containerd_v4")
    hidden = "/srv/odd/c.toml"
    layout["files"][hidden] = layout["files"][SHARE + "/configuration-qemu.toml"]
    layout["files"]["/srv/odd/config.d/x.toml"] = "[hypervisor.qemu]\nblock_device_aio = 'threads'\n"
    for path, text in layout["files"].items():
        if path.startswith("/srv/containerd"):
            layout["files"][path] = text.replace(SHARE + "/configuration-qemu.toml", "/srv/\\u006fdd/c.toml")
    root = layouts.build(layout, tmp_path)
    assert missing_documents(collect(root)) == [hidden]
    runtime = discover(observe(root))[0]
    assert runtime["id"] == hidden
    assert runtime["values"]["block_device_aio"] == "threads"


def test_only_one_variable_of_an_environment_travels(tmp_path):
    root = layouts.build(layouts.load("containerd_v4"), tmp_path)
    kata = collect(root)
    assert kata["cri_processes"] == [
        {
            "cri": "containerd",
            "config": "/srv/containerd/main.toml",
            "config_dir": None,
            "kata_conf_file": None,
        }
    ]
    assert "not-sent" not in json.dumps(kata)


def test_conf_file_of_the_environment_of_containerd(tmp_path):
    layout = layouts.load("static_3_7_0")
    layout["files"]["/etc/site/kata.toml"] = "[hypervisor.qemu]\npath = '/opt/q'\n"
    layout["files"]["/etc/containerd/config.toml"] = (
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\n'
    )
    layout["files"]["/proc/1/comm"] = "containerd\n"
    layout["files"]["/proc/1/cmdline"] = "containerd\0"
    layout["files"]["/proc/1/environ"] = "KATA_CONF_FILE=/etc/site/kata.toml\0PATH=/usr/bin:/opt/kata/bin\0"
    runtime = discover(observe(layouts.build(layout, tmp_path)))[0]
    assert (runtime["id"], runtime["config"]["how"], runtime["handlers"]) == ("/etc/site/kata.toml", "kata_conf_file", ["kata"])
    assert runtime["values"]["path"] == "/opt/q"


@pytest.mark.parametrize(
    "prepare, code, refused",
    [
        (lambda d: (d / "broken").write_text("= nonsense"), "drop_in_toml_invalid", True),
        (lambda d: (d / "README.md").write_text("Put your files here.\n"), "drop_in_toml_invalid", True),
        (lambda d: (d / "sub").mkdir(), "drop_in_directory", True),
        (lambda d: os.mkfifo(d / "pipe"), "drop_in_fifo", True),
        (lambda d: (d / "dangling.toml").symlink_to("nowhere"), "drop_in_dangling", True),
        (lambda d: (d / "bad.toml").write_bytes(b"# \xff\n"), "drop_in_toml_invalid", True),
        (lambda d: (d / "nul.toml").write_bytes(b"# \0\n"), "drop_in_toml_invalid", True),
        (lambda d: (d / "20-site.toml~").write_text(""), "drop_in_stray_name", False),
        (lambda d: (d / "mask.toml").symlink_to("20-site.toml"), None, False),
    ],
)
def test_config_d_of_go(prepare, code, refused, tmp_path):
    root = layouts.build(layouts.load("static_3_7_0"), tmp_path)
    prepare(Path(root + SHARE + "/config.d"))
    runtime = discover(observe(root))[0]
    assert [problem["code"] for problem in runtime["problems"]] == ([code] if code else [])
    assert runtime["refused"] is refused
    assert runtime["values"]["block_device_aio"] == "native"


@pytest.mark.parametrize(
    "make, code, refused, safe",
    [
        (lambda d: d.write_text(""), "config_dir_not_a_folder", True, False),
        (lambda d: d.symlink_to("nowhere"), "config_dir_dangling", False, False),
        (os.mkfifo, "config_dir_not_a_folder", True, False),
    ],
)
def test_config_d_that_is_no_folder(make, code, refused, safe, tmp_path):
    root = layouts.build(layouts.load("static_3_7_0"), tmp_path)
    folder = Path(root + SHARE + "/config.d")
    shutil.rmtree(folder)
    make(folder)
    runtime = discover(observe(root))[0]
    assert [problem["code"] for problem in runtime["problems"]] == [code]
    assert (runtime["refused"], runtime["drop_in"]["safe"]) == (refused, safe)


def test_config_d_through_a_link_to_a_folder_is_followed(tmp_path):
    root = layouts.build(layouts.load("static_3_7_0"), tmp_path)
    folder = Path(root + SHARE + "/config.d")
    folder.rename(root + "/srv-config.d")
    folder.symlink_to("/srv-config.d")
    runtime = discover(observe(root))[0]
    assert runtime["values"]["block_device_aio"] == "native"
    assert runtime["config_dir"]["exists"] is True


def test_missing_shim_and_missing_base(tmp_path):
    layout = layouts.load("static_3_7_0")
    del layout["files"]["/opt/kata/bin/containerd-shim-kata-v2"], layout["files"][SHARE + "/configuration-qemu.toml"]
    runtime = discover(observe(layouts.build(layout, tmp_path)))[0]
    assert [problem["code"] for problem in runtime["problems"]] == ["shim_missing", "base_missing"]
    assert runtime["config"]["real_path"] is None
    assert runtime["refused"] is True


def test_base_loop_and_fifo(tmp_path):
    for name, code in (("loop", "base_missing"), ("fifo", "base_not_regular")):
        layout = layouts.load("static_3_7_0")
        del layout["files"][SHARE + "/configuration-qemu.toml"]
        if name == "loop":
            layout["links"][SHARE + "/configuration-qemu.toml"] = "configuration.toml"
        else:
            layout["fifos"] = [SHARE + "/configuration-qemu.toml"]
        runtime = discover(observe(layouts.build(layout, tmp_path / name)))[0]
        assert code in [problem["code"] for problem in runtime["problems"]]


def test_one_base_file_read_by_both_runtimes(tmp_path):
    layout = layouts.load("static_3_7_0")
    layout["files"]["/opt/kata/runtime-rs/bin/containerd-shim-kata-v2"] = "ELF"
    layout["files"]["/etc/containerd/config.toml"] += (
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-rs]\nruntime_type = "io.containerd.kata-rs.v2"\n'
        'runtime_path = "/opt/kata/runtime-rs/bin/containerd-shim-kata-v2"\n'
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-rs.options]\nConfigPath = "%s/configuration.toml"\n' % SHARE
    )
    runtimes = discover(observe(layouts.build(layout, tmp_path)))
    assert [(runtime["id"], runtime["runtime"], runtime["handlers"]) for runtime in runtimes] == [
        (SHARE + "/configuration-qemu.toml", "go", ["kata-qemu"]),
        (SHARE + "/configuration-qemu.toml#rs", "rs", ["kata-rs"]),
    ]


def test_version_of_the_shim_is_the_last_resort(tmp_path):
    layout = layouts.load("containerd_v1")
    asked = []

    def version(path):
        asked.append(path)
        return 'Kata Containers containerd shim (Golang): id: "io.containerd.kata.v2", version: 3.2.0, commit: abc'

    root = layouts.build(layout, tmp_path / "a")
    runtime = discover(collect(root, run_version=version))[0]
    assert (runtime["release"], runtime["release_source"]) == ("3.2.0", "/usr/bin/containerd-shim-kata-v2 --version")
    assert asked == ["/usr/bin/containerd-shim-kata-v2"]
    collect(layouts.build(layouts.load("static_3_7_0"), tmp_path / "b"), run_version=pytest.fail)


def test_files_that_the_user_names(tmp_path):
    layout = layouts.load("static_3_7_0")
    layout["files"]["/srv/cri/c.toml"] = layout["files"].pop("/etc/containerd/config.toml")
    layout["files"]["/srv/kata/own.toml"] = "[hypervisor.qemu]\npath = '/opt/q'\n"
    runtimes = discover(observe(layouts.build(layout, tmp_path), extra_files=["/srv/cri/*.toml", "/srv/kata/own.toml"]))
    assert [(runtime["id"], runtime["handlers"], runtime["config"]["how"]) for runtime in runtimes] == [
        (SHARE + "/configuration-qemu.toml", ["kata-qemu"], "config_path"),
        ("/srv/kata/own.toml", [], "named"),
    ]


def test_imports_fetched_as_named_files_are_no_cri_of_their_own(tmp_path):
    root = layouts.build(layouts.load("kata_deploy_3_24"), tmp_path)
    plain = discover(observe(root))
    again = discover(observe(root, extra_files=["/opt/kata/containerd/config.d/kata-deploy.toml"]))
    assert again == plain


def configs():
    here = Path(__file__).resolve().parents[5]
    folder = Path(os.environ.get("KATAOPS_KATA_CONFIGS") or here.parent / "shared" / "kata-configs")
    return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.mark.skipif(not configs(), reason="no folder of shipped Kata configurations (KATAOPS_KATA_CONFIGS)")
@pytest.mark.parametrize("folder", configs(), ids=lambda folder: folder.name)
def test_shipped_configurations(folder, tmp_path):
    """All shipped files of a release on one host: every one is understood, and kilobytes travel."""
    table, raw, wanted = "", 0, {}
    for kind, below in (("go", ""), ("rs", "/runtime-rs")):
        shim = "/opt/kata%s/bin/containerd-shim-kata-v2" % below
        layouts.put(tmp_path, shim, "ELF")
        for path in sorted((folder / kind).glob("*.toml")):
            raw += path.stat().st_size
            place = SHARE + below + "/" + path.name
            layouts.put(tmp_path, place, path.read_bytes())
            table += '[plugins.cri.containerd.runtimes."%s-%s"]\nruntime_type = "io.containerd.kata.v2"\nruntime_path = "%s"\noptions.ConfigPath = "%s"\n' % (
                kind,
                path.stem,
                shim,
                place,
            )
            wanted[place] = kind
    layouts.put(tmp_path, "/etc/containerd/config.toml", table)
    layouts.put(tmp_path, "/opt/kata/VERSION", folder.name + "\n")
    kata = observe(tmp_path)
    assert len(json.dumps(kata)) < 32 * 1024 < raw
    runtimes = discover(kata)
    assert {runtime["id"]: runtime["runtime"] for runtime in runtimes} == wanted
    for runtime in runtimes:
        codes = {problem["code"] for problem in runtime["problems"]}
        assert runtime["release"] == folder.name
        # Placeholders of TDX files; IBM's file without an image; what depends on the host or the build; 4.1.0's own time limits of Firecracker's file
        odd = {"remote": "configuration_unknown", "openvmm": "configuration_unknown", "qemu-se": "incomplete_hypervisor", "-fc": "invalid_value"}
        allowed = {"path_not_absolute", "file_missing"} | {code for part, code in odd.items() if part in runtime["id"] and runtime["runtime"] == "rs"}
        assert codes <= allowed, (runtime["id"], runtime["problems"])
        if "/configuration-qemu" in runtime["id"]:
            assert runtime["hypervisor"] == "qemu"
            older = runtime["runtime"] == "rs" and int(folder.name.split(".")[1]) < 20 and folder.name.startswith("3.")
            assert runtime["values"]["block_device_aio"] == ("threads" if older else "io_uring")
            assert runtime["values"]["block_device_cache_direct"] is False
            assert runtime["drop_in"]["safe"] is False, "other hypervisors' base files lie beside it"
        else:
            assert runtime["drop_in"]["safe"] is False
        if "path_not_absolute" in codes:
            assert "tdx" in runtime["id"]
    texts = unpack(kata["texts_z"])
    assert len(texts) == len({document["sha256"] for document in kata["documents"].values()})


@pytest.mark.parametrize("imports, handlers", [("", ["kata-qemu"]), ('imports = ["/etc/containerd/conf.d/*.toml"]\n', ["kata-qemu"]), ("imports = []\n", [])])
def test_conf_d_counts_unless_the_main_file_imports_something_else(imports, handlers, tmp_path):
    layout = layouts.load("static_3_7_0")
    layout["files"]["/etc/containerd/conf.d/kata.toml"] = layout["files"]["/etc/containerd/config.toml"]
    layout["files"]["/etc/containerd/config.toml"] = "version = 2\n" + imports
    assert discover(observe(layouts.build(layout, tmp_path)))[0]["handlers"] == handlers


def test_only_values_that_matter_or_that_a_drop_in_sets_are_kept(tmp_path):
    layout = layouts.load("static_3_7_0")
    layout["files"][SHARE + "/configuration-qemu.toml"] = layout["files"][SHARE + "/configuration-qemu.toml"].replace(
        "[agent", "default_vcpus = 1\npcie_root_port = 1\n[agent"
    )
    layout["files"][SHARE + "/config.d/20-site.toml"] += "pcie_root_port = 2\n"
    runtime = discover(observe(layouts.build(layout, tmp_path)))[0]
    assert "default_vcpus" not in runtime["values"]
    assert runtime["values"]["pcie_root_port"] == 2
    assert set(runtime["sources"]) == set(runtime["values"])


@pytest.mark.parametrize("folder, prefix", [("/usr/local/bin", "/usr"), ("/usr/bin", "/usr"), ("/opt/kata/bin", "/opt/kata")])
def test_defaults_follow_what_the_shim_was_built_for(folder, prefix, tmp_path):
    layout = layouts.load("containerd_v1")
    del layout["files"]["/usr/bin/containerd-shim-kata-v2"]
    layout["files"][folder + "/containerd-shim-kata-v2"] = "ELF"
    layout["files"][SHARE + "/configuration.toml"] = "[hypervisor.qemu]\n"
    runtimes = discover(observe(layouts.build(layout, tmp_path)))
    assert [runtime["config"]["asked"] for runtime in runtimes if runtime["handlers"]] == [prefix + "/share/defaults/kata-containers/configuration.toml"]


@pytest.mark.parametrize(
    ("shim", "folder"),
    [
        ("/usr/bin", "/usr/share/kata-containers/defaults"),  # RPM of Fedora, RHEL, OpenShift
        ("/usr/bin", "/usr/share/defaults/kata-containers"),
        ("/usr/local/bin", "/usr/share/defaults/kata-containers"),  # make install from source; Azure
        ("/usr/local/bin", "/usr/local/share/defaults/kata-containers"),
        ("/usr/local/bin", "/opt/kata/share/defaults/kata-containers"),  # Kata's own shim, copied
        ("/snap/kata-containers/current/usr/bin", "/snap/kata-containers/current/usr/share/defaults/kata-containers"),
        ("/srv/kata/bin", "/srv/kata/share/defaults/kata-containers"),
        ("/usr/bin", "/etc/kata-containers"),
    ],
)
def test_the_packagers_own_place_is_found(shim, folder, tmp_path):
    layout = layouts.load("containerd_v1")
    del layout["files"]["/usr/bin/containerd-shim-kata-v2"]
    layout["files"] = {path: text for path, text in layout["files"].items() if "kata-containers" not in path}
    layout["links"] = {}
    layout["files"][shim + "/containerd-shim-kata-v2"] = "ELF"
    layout["files"][folder + "/configuration.toml"] = "[hypervisor.qemu]\n"
    main = layout["files"]["/etc/containerd/config.toml"]
    if shim not in ("/usr/bin", "/usr/local/bin"):
        layout["files"]["/etc/containerd/config.toml"] = main.replace('"io.containerd.kata.v2"', '"%s/containerd-shim-kata-v2"' % shim)
    runtimes = discover(observe(layouts.build(layout, tmp_path)))
    assert [runtime["config"]["asked"] for runtime in runtimes if runtime["handlers"]] == [folder + "/configuration.toml"]
    assert "config_missing" not in [problem["code"] for runtime in runtimes for problem in runtime["problems"]]


@pytest.mark.parametrize("folder", ["/usr/share/kata-containers/defaults", "/snap/kata-containers/current/usr/share/defaults/kata-containers"])
def test_a_packagers_file_without_a_handler_is_found(folder, tmp_path):
    layout = {"files": {folder + "/configuration.toml": "[hypervisor.qemu]\n"}}
    assert [(runtime["id"], runtime["handlers"]) for runtime in discover(observe(layouts.build(layout, tmp_path)))] == [(folder + "/configuration.toml", [])]


def test_config_d_of_a_base_file_that_no_hint_takes_for_one(tmp_path):
    layout = layouts.load("static_3_7_0")
    layout["files"]["/srv/odd.toml"] = '["\\u0068ypervisor".qemu]\npath = "/opt/q"\n'
    layout["files"]["/srv/config.d/a.toml"] = "[hypervisor.qemu]\nblock_device_aio = 'threads'\n"
    main = layout["files"]["/etc/containerd/config.toml"]
    layout["files"]["/etc/containerd/config.toml"] = main.replace(SHARE + "/configuration-qemu.toml", "/srv/odd.toml")
    root = layouts.build(layout, tmp_path)
    assert missing_documents(collect(root)) == ["/srv/config.d"]
    runtime = discover(observe(root))[0]
    assert (runtime["id"], runtime["values"]["block_device_aio"], runtime["handlers"]) == ("/srv/odd.toml", "threads", ["kata-qemu"])


def test_a_named_drop_in_is_no_base_file(tmp_path):
    drop_in = SHARE + "/config.d/20-site.toml"
    kata = observe(layouts.build(layouts.load("static_3_7_0"), tmp_path), extra_files=[drop_in])
    assert SHARE + "/config.d/config.d" not in kata["config_dirs"]
    assert [runtime["id"] for runtime in discover(kata)] == [SHARE + "/configuration-qemu.toml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount needs root")
@pytest.mark.parametrize(
    ("name", "read_only", "override"),
    [("static_3_7_0", True, None), ("static_3_7_0", False, None), ("default_only", True, "/etc/kata-containers/configuration.toml")],
)
def test_what_cannot_be_written_is_told_by_a_real_mount(name, read_only, override, tmp_path):
    """In a mount namespace of its own, the installation's tree is bound read-only over itself, as on image-based systems."""
    if name == "default_only":
        layout = layouts.load("static_3_7_0")
        layout["files"] = {path: text for path, text in layout["files"].items() if path.startswith(("/opt/", "/usr/"))}
    else:
        layout = layouts.load(name)
    root = Path(layouts.build(layout, tmp_path))
    (root / "etc").mkdir(exist_ok=True)
    script = (
        "import json, sys; from ansible_collections.kataops.aio.plugins.module_utils._kata.collect import collect;"
        "from ansible_collections.kataops.aio.plugins.plugin_utils._kata.discover import discover;"
        "print(json.dumps([(r['id'], r['config']['how'], r['read_only']) for r in discover(collect(sys.argv[1]))]))"
    )
    mount = 'mount --bind "$0/opt" "$0/opt" && mount -o remount,ro,bind "$0/opt" && ' if read_only else ""
    command = ["unshare", "--mount", "sh", "-c", mount + 'exec "$1" -c "$2" "$0"', str(root), sys.executable, script]
    environment = dict(os.environ, PYTHONPATH=str(next(path for path in sys.path if (Path(path) / "ansible_collections" / "kataops").exists())))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found
    assert name != "default_only" or {told["override"] for _id, how, told in found if how == "default"} == {override}
    for _id, _how, told in found:
        reason = "its file system is mounted read-only" if read_only else None
        assert (told["base_file"], told["drop_in"]) == (reason, reason)
