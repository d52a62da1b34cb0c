# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A made-up fleet in the facts' real form, for the report's tests.

QEMU's words are those that real builds gave; findings come from the real rules.
"""

from __future__ import annotations

from ansible_collections.kataops.aio.plugins.plugin_utils._judge.assess import effective_engine, finding
from ansible_collections.kataops.aio.plugins.plugin_utils._report.model import natural_key

CONFIG = "/opt/kata/share/defaults/kata-containers/configuration-qemu.toml"
STATIC = "/opt/kata/bin/qemu-system-x86_64"
OURS = "/opt/kataops/qemu/7.2.22-0f3a91c2d4be/bin/qemu-system-x86_64"
SAID = {
    "native": "aio=native was specified, but is not supported in this build.",
    "io_uring": "Parameter 'aio' does not accept value 'io_uring'",
    "direct": "aio=native was specified, but it requires cache.direct=on, which was not specified.",
}
NASTY = '</script><img src=x onerror=alert(1)> | "quoted" =cmd()\n`tick` \u2028 <!-- \\ {{ 7*7 }}'


def ask(engine):
    return 'blockdev-add {"driver":"file","filename":"/var/lib/containerd/.kata-aio-probe","aio":"%s","cache":{"direct":true},"node-name":"probe"}' % engine


def engine(name, outcome="works", reason=None):
    answered = {"works": '{"return": {}}', "not_compiled": SAID.get(name), "falls_back": '{"return": {}}'}.get(outcome, "refused")
    evidence = [{"asked": ask(name), "answered": answered, "by": "qmp"}]
    observed = {"works": name, "falls_back": "threads"}.get(outcome)
    if observed:
        seen = {"native": "a mapping named [aio]", "io_uring": "anon_inode:[io_uring]", "threads": "neither [aio] nor a ring"}[observed]
        evidence.append({"asked": "/proc/PID/maps and fd after one write", "answered": seen, "by": "proc"})
    return {
        "compiled": outcome != "not_compiled",
        "compiled_by": "qmp",
        "usable": outcome == "works",
        "outcome": outcome,
        "cause": {"not_compiled": "not_in_build", "falls_back": "io_uring_refused"}.get(outcome),
        "needs_direct": name == "native",
        "observed": observed,
        "reason": reason,
        "evidence": evidence,
    }


def qemu(path=STATIC, *, version="7.2.22", linkage="static", origin="kata_static", native="works", io_uring="works"):
    return {
        "path": path,
        "names": [path],
        "real_path": path,
        "status": "answered",
        "reason": None,
        "kind": "elf",
        "wrapper": None,
        "origin": origin,
        "package": None,
        "file": {"size": 14680064, "mtime": 1730000000, "inode": 4242, "device": 2049},
        "version": version,
        "version_by": "qmp",
        "architecture": "x86_64",
        "linkage": linkage,
        "needed": [],
        "engines": {
            "threads": engine("threads"),
            "native": engine("native", native, "the binary was built without libaio" if native == "not_compiled" else None),
            "io_uring": engine("io_uring", io_uring, "the binary was built without liburing" if io_uring == "not_compiled" else None),
        },
        "firmware": {"search_paths": ["/opt/kata/share/kata-qemu/qemu"], "missing": [], "found": {}, "reason": None},
        "devices_missing": [],
        "objects_missing": [],
        "machine_types": ["q35"],
        "evidence": [{"asked": "query-version", "answered": '{"qemu": {"major": 7, "minor": 2, "micro": 22}}', "by": "qmp"}],
    }


def runtime(path=STATIC, aio="native", *, release="3.7.0", handlers=("kata-qemu",), kind="go", direct=True, config=CONFIG, source=None):
    return {
        "id": config,
        "handlers": list(handlers),
        "cri": ["containerd"],
        "runtime": kind,
        "runtime_reason": None,
        "release": release,
        "release_source": "/opt/kata/VERSION",
        "shim": "/opt/kata/bin/containerd-shim-kata-v2",
        "config": {"asked": config, "real_path": config, "how": "config_path", "sha256": "0" * 64, "mode": "0644", "uid": 0, "gid": 0},
        "config_dir": {"path": "x", "exists": True, "drop_ins": [], "shared_with": []},
        "hypervisor": "qemu",
        "values": {"path": path, "block_device_aio": aio, "block_device_cache_set": direct, "block_device_cache_direct": direct},
        "sources": {"block_device_aio": source or config},
        "problems": [],
        "drop_in": {"safe": True, "reason": None},
    }


def facts(host, runtimes=None, qemus=None, *, findings=(), verdict="ok", strategy="none", total=12, by_engine=None, fallbacks=0, max_nr=1048576):
    runtimes = [runtime()] if runtimes is None else runtimes
    qemus = [qemu()] if qemus is None else qemus
    runtimes = [dict(item, engine=effective_engine(item, {"qemus": qemus}, list(findings))) for item in runtimes]
    nr = (by_engine or {}).get("native", 0) * 1024
    return {
        "schema_version": 1,
        "host": {"name": host},
        "runtimes": runtimes,
        "qemus": qemus,
        "kernel": {
            "release": "6.1.0-18-amd64",
            "aio": {
                "max_nr": max_nr,
                "nr": nr,
                "free": max_nr - nr,
                "contexts_free": (max_nr - nr) // 1024,
                "io_setup": {"ok": True},
                "reason": None,
            },
            "io_uring": {"disabled": 0, "group": None, "setup_root": {"ok": True}, "setup_user": {"ok": True}, "reason": None},
        },
        "libaio": {
            "runtime": {"present": True, "path": "/usr/lib/x86_64-linux-gnu/libaio.so.1", "package": "libaio1", "version": "0.3.113", "reason": None},
            "headers": {"present": False, "path": None, "package": None, "version": None, "reason": "not installed"},
            "static_archive": {"present": False, "path": None, "package": None, "version": None, "reason": "not installed"},
            "package_manager": "dpkg",
            "evidence": [],
        },
        "storage": [{"path": "/var/lib/containerd", "probed": "/var/lib/containerd", "filesystem": "ext4", "o_direct": True, "reason": None, "evidence": []}],
        "sandboxes": {
            "total": total,
            "by_engine": {"native": 0, "threads": 0, "io_uring": 0, "none_open": total, "unknown": 0, **(by_engine or {})},
            "silent_fallbacks": fallbacks,
            "processes": [{"pid": 100 + number, "observed": ["threads"]} for number in range(total)],
            "reason": None,
        },
        "findings": list(findings),
        "verdict": verdict,
        "verdicts": {item["id"]: verdict for item in runtimes},
        "plan": {
            "needed": strategy != "none",
            "strategy": strategy,
            "reasons": ["%s: no QEMU of this host has native and all that Kata needs" % CONFIG] if strategy == "rebuild" else [],
            "qemu": None,
            "limits": None,
            "libaio_package": False,
            "settings": [],
        },
    }


def broken(host, version="7.2.22", release="3.7.0"):
    limit = [{"asked": "fs.aio-nr of fs.aio-max-nr", "answered": "0 of 65536", "by": "file"}]
    no_aio = qemu(version=version, native="not_compiled", io_uring="not_compiled")
    found = [
        finding("native_not_compiled", CONFIG, STATIC, no_aio["engines"]["native"]["evidence"], "the binary was built without libaio"),
        finding("aio_headroom", CONFIG, "fs.aio-max-nr", limit, "Room for 64 more."),
    ]
    return facts(host, [runtime(release=release)], [no_aio], findings=found, verdict="broken", strategy="rebuild", max_nr=65536)


def repaired(host):
    drop_in = CONFIG.rsplit("/", 1)[0] + "/config.d/60-kataops-aio.toml"
    return facts(host, [runtime(OURS, source=drop_in)], [qemu(native="not_compiled", io_uring="not_compiled"), qemu(OURS, origin="kataops")])


def degraded(host):
    new = qemu("/usr/bin/qemu-system-x86_64", version="10.0.13", linkage="dynamic", origin="distribution", io_uring="falls_back")
    words = [{"asked": "kernel.io_uring_disabled", "answered": "2", "by": "file"}]
    found = [finding("io_uring_falls_back", CONFIG, new["path"], new["engines"]["io_uring"]["evidence"] + words)]
    old = runtime(new["path"], "io_uring", release="3.19.1")
    judged = {"findings": found, "verdict": "degraded", "strategy": "configuration"}
    return facts(host, [old], [new], **judged, total=40, by_engine={"threads": 31}, fallbacks=31)


def healthy(host, number=0):
    new = qemu(version="9.1.2")
    rs_config = CONFIG.replace("configuration-qemu", "runtime-rs/configuration-qemu")
    second = runtime(STATIC, "io_uring", release="3.27.0", handlers=("kata-qemu-runtime-rs",), kind="rs", config=rs_config)
    info = [finding("cache_set_with_files", CONFIG, CONFIG)]
    runtimes = [runtime(release="3.27.0"), second] if number % 3 == 0 else [runtime(release="3.12.0")]
    return facts(host, runtimes, [new], findings=info, total=20 + number % 17, by_engine={"native": 18 + number % 17})


STEPS = [
    {"name": "libaio | Raise fs.aio-max-nr", "changed": True, "seconds": 0.4, "detail": "65536 → 1048576, /etc/sysctl.d/60-kataops-aio.conf"},
    {"name": "qemu | Send and verify the tree", "changed": True, "seconds": 6.2, "detail": "7.2.22-0f3a91c2d4be, 14 files"},
    {
        "name": "qemu | Prove it on this host",
        "changed": False,
        "seconds": 1.1,
        "detail": "blockdev-add, device_add, 64 KiB written and read back, [aio] in /proc/PID/maps",
    },
    {"name": "kata_config | Switch over", "changed": True, "seconds": 0.3, "detail": "config.d/60-kataops-aio.toml, one rename"},
    {"name": "proof | Observe again", "changed": False, "seconds": 1.4, "detail": None},
]


def record(host, outcome, wave, strategy="rebuild", **more):
    done = {"phase_reached": "done", "steps": [], "error": None, "bytes_sent": 0, "seconds": 1.2}
    return {**done, "host": host, "outcome": outcome, "strategy": strategy, "wave": wave, **more}


TRIED = [
    {
        "strategy": "reuse",
        "with": "reuse of /usr/bin/qemu-system-x86_64",
        "phase": "stage",
        "reason": "QEMU refuses Kata's device_add: <b>no bus</b> | pci-bridge-0",
    }
]

NO_SPACE = {
    "phase": "stage",
    "message": "/opt: No space left on device",
    "undone": "nothing had changed",
    "next": "free 200 MiB under /opt, then run remediate with --limit h6",
}


def item(host, before=None, after=None, outcome=None, lost=False):
    return {"host": host, "before": before, "after": after, "outcome": outcome, "lost": lost}


def small():
    """Eight hosts, one of each way that a rollout ends, with words in the evidence that break careless renderers."""
    nasty = broken("h5")
    nasty["findings"][0]["evidence"][0]["answered"] = NASTY
    nasty["findings"][0]["detail"] = NASTY
    message = "the proof after the switch failed: " + NASTY
    error = {"phase": "prove after", "message": message, "undone": "the drop-in was taken away", "next": "kataops.aio.audit"}
    return [
        item("h1", broken("h1"), repaired("h1"), record("h1", "repaired", 1, steps=STEPS, bytes_sent=14 << 20, seconds=9.4)),
        item("h2", broken("h2"), repaired("h2"), record("h2", "repaired", 2, steps=STEPS, strategies_tried=TRIED, bytes_sent=14 << 20, seconds=11.8)),
        item("h3", healthy("h3"), None, record("h3", "converged", None, "none")),
        item("h4", degraded("h4"), None, record("h4", "untouched", None, "configuration")),
        item("h5", broken("h5"), nasty, record("h5", "rolled_back", 2, steps=STEPS[:4], error=error, bytes_sent=14 << 20, seconds=13.0)),
        item("h6", broken("h6"), None, record("h6", "failed", 2, error=NO_SPACE, phase_reached="stage")),
        item("h7", None, None, None, True),
        item(
            "h10",
            facts("h10", [], [], findings=[finding("no_kata")], verdict="not_applicable", total=0),
            None,
            record("h10", "not_applicable", None, "none"),
        ),
    ]


def big(count=1000):
    """A large fleet after a remediation: most repaired, some of everything."""
    hosts = []
    for number in range(count):
        name = "node-%04d.rack%02d.example.org" % (number, number % 40)
        wave = 1 if number == 0 else 2 if number < count // 10 else 3 if number < count // 2 else 4
        kind = number % 20
        if kind < 11:
            done = record(name, "repaired", wave, steps=STEPS, bytes_sent=14 << 20, seconds=9 + kind / 3)
            hosts.append(item(name, broken(name), repaired(name), done))
        elif kind in (17, 18):
            hosts.append(item(name, degraded(name), None, record(name, "untouched", wave, "configuration")))
        elif number % 100 == 19:
            hosts.append(item(name, broken(name), None, record(name, "failed", wave, error=NO_SPACE, phase_reached="stage")))
        elif number % 200 == 139:
            hosts.append(item(name, lost=True))
        else:
            hosts.append(item(name, healthy(name, number), None, record(name, "converged", None, "none")))
    return sorted(hosts, key=lambda entry: natural_key(entry["host"]))


RUN = {
    "command": "remediate",
    "check_mode": False,
    "limit": None,
    "waves": [1, "10%", "50%", "100%"],
    "budget": 2,
    "started_at": "2026-11-22T09:00:00Z",
    "seconds": 214.0,
}
