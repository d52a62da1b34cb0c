# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU trees on a host: unpack, verify, take away. PRIVATE to kataops.aio.

A tree ``<trees>/<id>`` appears by one rename, with every file checked against the manifest and on the disk before. Whatever is wrong with an
artifact is found in a temporary sibling, which is then removed: the host stays as it was.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zlib

from ansible_collections.kataops.aio.plugins.module_utils._errors import AioError
from ansible_collections.kataops.aio.plugins.module_utils._host.durable import sync_folder, write_all
from ansible_collections.kataops.aio.plugins.module_utils._host.trust import require_folder
from ansible_collections.kataops.aio.plugins.module_utils._qemu.elf import foreign, read_elf
from ansible_collections.kataops.aio.plugins.module_utils._qemu.strings import compiled_by_marks, find_marks
from ansible_collections.kataops.aio.plugins.module_utils._tree import manifest as _manifest
from ansible_collections.kataops.aio.plugins.module_utils._tree.compression import open_stream

DEFAULT_FOLDER = "/opt/kataops/qemu"

#: Names of temporary siblings begin so; no tree's id does.
TEMPORARY = ".kataops-aio-"
_BLOCK = 1 << 20
_FETCH_AGAIN = "fetch or build the artifact again"


@contextlib.contextmanager
def locked(folder):
    """The folder of trees for this process alone; made where it is missing. Temporary siblings that a killed run left are removed."""
    made = not os.path.isdir(folder)
    require_folder(folder, "keeping QEMU trees")
    missing = folder
    while not os.path.isdir(missing):
        missing = os.path.dirname(missing)
    for name in os.path.relpath(folder, missing).split("/") if made else ():
        missing = os.path.join(missing, name)
        os.mkdir(missing)
        os.chmod(missing, 0o755)  # nosec B103  # Kata runs what is in it; whatever the umask is
    if made:
        sync_folder(os.path.dirname(folder))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for name in os.listdir(folder):
            if name.startswith(TEMPORARY):
                shutil.rmtree(os.path.join(folder, name))
        yield
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        raise
    finally:
        os.close(descriptor)


def tree_ids(folder):
    """The ids of the trees in a folder, sorted; none where it is missing."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    return [name for name in names if not name.startswith(".") and os.path.isfile(os.path.join(folder, name, _manifest.NAME))]


def read_manifest(tree):
    """``(manifest, sha256 of its bytes)`` of a tree on the disk."""
    path = os.path.join(tree, _manifest.NAME)
    try:
        with open(path, "rb") as handle:
            data = handle.read(_manifest.MAX_BYTES + 1)
    except OSError as error:
        raise AioError("the tree's manifest cannot be read: %s" % error.strerror, where=path, expected="a tree that qemu_tree unpacked") from None
    return _manifest.load(data, path), hashlib.sha256(data).hexdigest()


def problems(tree, manifest_sha256=None, name=None):
    """Everything in which a tree on the disk differs from its manifest: a list of sentences, empty where it is whole.

    :arg name: which tree it is; by default what its folder is called.
    :arg manifest_sha256: what the manifest's own SHA-256 has to be; without it the tree is checked against itself only.
    """
    found = []
    try:
        manifest, digest = read_manifest(tree)
    except AioError as error:
        return [str(error)]
    if manifest_sha256 and digest != manifest_sha256:
        found.append("%s is not the artifact's: sha256 %s" % (_manifest.NAME, digest))
    if manifest["id"] != (name or os.path.basename(tree)):
        found.append("%s is of another tree: %s" % (_manifest.NAME, manifest["id"]))
    wanted = {entry["path"]: entry for entry in manifest["files"]}
    try:
        present = dict(_manifest.walk(tree))
    except AioError as error:
        return found + [str(error)]
    for path in sorted(set(present) - set(wanted) - {_manifest.NAME}):
        found.append("%s is not in the manifest" % path)
    for path, entry in wanted.items():
        problem = _file_problem(tree, entry, present.get(path))
        if problem:
            found.append("%s %s" % (path, problem))
    return found


def _file_problem(tree, entry, status):
    if status is None:
        return "is missing"
    if stat.S_IMODE(status.st_mode) != int(entry["mode"], 8):
        return "has mode %04o, not %s" % (stat.S_IMODE(status.st_mode), entry["mode"])
    if status.st_size != entry["size"]:
        return "has %d bytes, not %d" % (status.st_size, entry["size"])
    if _manifest.file_sha256(os.path.join(tree, entry["path"])) != entry["sha256"]:
        return "has other contents than the manifest says"
    return None


class Archive:
    """An artifact that is read once from its beginning to its end; its manifest is the first file in it."""

    def __init__(self, path, sha256=None):
        self.path = path
        self._sha256 = sha256
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with self._damage():
            if self._sha256:
                found = _manifest.file_sha256(self.path)
                if found != self._sha256:
                    raise AioError("the artifact's checksum is wrong: sha256 %s" % found, where=self.path, expected=self._sha256, remedy=_FETCH_AGAIN)
            self._stream = self._stack.enter_context(open_stream(self.path))
            self._tar = self._stack.enter_context(tarfile.open(fileobj=self._stream, mode="r|"))
            first = self._tar.next()
            if first is None or not first.isreg() or os.path.basename(first.name) != _manifest.NAME or first.size > _manifest.MAX_BYTES:
                raise AioError("the artifact does not begin with its manifest", where=self.path, expected="an artifact of the role qemu_build")
            data = self._tar.extractfile(first).read()
        self.manifest_sha256 = hashlib.sha256(data).hexdigest()
        self.manifest = _manifest.load(data, "%s in %s" % (_manifest.NAME, self.path))
        self.manifest_bytes = data
        if first.name != "%s/%s" % (self.manifest["id"], _manifest.NAME):
            raise AioError("the artifact's folder is not its id: %s" % first.name, where=self.path, expected=self.manifest["id"])
        return self

    def __exit__(self, *unused):
        self._stack.close()

    @contextlib.contextmanager
    def _damage(self):
        """What the readers of tar and its compression say of damage, as one error."""
        try:
            yield
        except (tarfile.TarError, lzma.LZMAError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError) as error:
            raise AioError("the artifact is truncated or damaged: %s" % error, where=self.path, expected="an unharmed archive", remedy=_FETCH_AGAIN) from None
        except FileNotFoundError:
            raise AioError("there is no such artifact", where=self.path, expected="a file that the role qemu_build made") from None

    def unpack(self, folder):
        """Writes and syncs every file below ``folder``, each checked on the way; AioError at the first that is wrong."""
        wanted = {entry["path"]: entry for entry in self.manifest["files"]}
        with self._damage():
            member = self._tar.next()
            while member is not None:
                path = self._member_path(member)
                if not member.isdir():
                    if path not in wanted:
                        raise self._wrong("a file that its manifest does not have, or has once only: %s" % path)
                    self._unpack_file(member, wanted.pop(path), os.path.join(folder, path))
                member = self._tar.next()
            self._read_to_end()
        if wanted:
            raise self._wrong("not all files of its manifest: %s is missing" % ", ".join(sorted(wanted)))
        with open(os.path.join(folder, _manifest.NAME), "wb") as handle:
            os.fchmod(handle.fileno(), 0o644)
            handle.write(self.manifest_bytes)
            handle.flush()
            os.fsync(handle.fileno())
        for base, _folders, _files in os.walk(folder):
            os.chmod(base, 0o755)  # nosec B103  # Kata reads it as any user
            sync_folder(base)

    def _read_to_end(self):
        """Only at the very end do the compression's own checksums tell whether all of it was read."""
        for _block in range(64):
            if not self._stream.read(_BLOCK):
                return
        raise self._wrong("more behind its last file than any tar has")

    def _wrong(self, what):
        return AioError("the artifact holds %s" % what, where=self.path, remedy="do not use it; " + _FETCH_AGAIN)

    def _member_path(self, member):
        """The path of a member below the tree; AioError for anything but plain files and folders that stay in it."""
        top = self.manifest["id"]
        kinds = (
            (member.issym() or member.islnk(), "a link"),
            (member.ischr() or member.isblk() or member.isfifo(), "a device or pipe"),
            (not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)), "something that is neither file nor folder"),
            (bool(member.mode & 0o7000), "a file with setuid, setgid or sticky bit"),
        )
        for wrong, what in kinds:
            if wrong:
                raise self._wrong("%s: %s" % (what, member.name))
        if member.isdir() and member.name.rstrip("/") == top:
            return ""
        if not member.name.startswith(top + "/"):
            raise self._wrong("a path outside of its own folder: %s" % member.name)
        return _manifest.valid_path(member.name[len(top) + 1 :].rstrip("/") if member.isdir() else member.name[len(top) + 1 :], self.path)

    def _unpack_file(self, member, entry, target):
        if member.size != entry["size"]:
            raise self._wrong("%s with %d bytes, where its manifest says %d" % (entry["path"], member.size, entry["size"]))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        digest = hashlib.sha256()
        source = self._tar.extractfile(member)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            for block in iter(lambda: source.read(_BLOCK), b""):
                digest.update(block)
                write_all(descriptor, block)
            os.fchmod(descriptor, int(entry["mode"], 8))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if digest.hexdigest() != entry["sha256"]:
            raise self._wrong("%s with other contents than its manifest says (sha256 %s)" % (entry["path"], digest.hexdigest()))


def distribution(path="/etc/os-release"):
    """The distribution and its release as one word (``debian-12``), by os-release(5); ``unknown`` where there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            fields = dict(line.strip().split("=", 1) for line in handle if "=" in line)
    except OSError:
        return "unknown"
    return "-".join(fields[key].strip("\"'") for key in ("ID", "VERSION_ID") if key in fields) or "unknown"


def check_engines(manifest, engines, where):
    """Whether the engines that are asked for are compiled in, told by the manifest alone; AioError where one is not."""
    missing = [engine for engine in engines if engine not in manifest["engines"]]
    if missing:
        raise AioError(
            "the QEMU in it was built without %s" % " and ".join(missing),
            where=where,
            expected="a QEMU with %s" % " and ".join(engines),
            remedy="build it again with qemu_build_engines naming them",
        )


def check_fit(manifest, folder, engines=(), where="the artifact"):
    """Whether a tree can serve on this host, told by its manifest alone.

    :arg folder: the folder of trees it is to lie in.
    :arg engines: engines that it has to have compiled in.
    """
    if foreign(manifest["architecture"]):
        raise AioError(
            "the QEMU in it is for %s" % manifest["architecture"],
            where=where,
            expected=os.uname().machine,
            remedy="give this host the artifact of its own architecture",
        )
    check_engines(manifest, engines, where)
    wanted, here = manifest.get("distribution"), distribution()
    if wanted and wanted != here:
        raise AioError(
            "the QEMU in it is linked to the libraries of %s" % wanted,
            where=where,
            expected="a QEMU for %s, or a static one" % here,
            remedy="build it with qemu_build_linkage: static, or on a builder with this host's distribution",
        )
    prefix = manifest.get("prefix")
    home = os.path.join(folder, manifest["id"])
    if prefix and prefix != home:
        raise AioError("this tree works in one place only", where=where, expected=prefix, remedy="leave qemu_trees_dir as it was when it was packed")


def _check_binary(folder, manifest, where):
    """The unpacked binary against what its manifest says of it: architecture, and engines by QEMU's own strings."""
    path = os.path.join(folder, manifest["binary"])
    with open(path, "rb") as handle:
        if handle.read(2) == b"#!":
            return
        handle.seek(0)
        elf = read_elf(handle, path)
        if elf.architecture != manifest["architecture"]:
            raise AioError("the QEMU in it is for %s, not for %s as its manifest says" % (elf.architecture, manifest["architecture"]), where=where)
        compiled = compiled_by_marks(find_marks(handle)["marks"])
    for engine in manifest["engines"]:
        if compiled.get(engine) is False:
            raise AioError("the QEMU in it was built without %s, though its manifest says otherwise" % engine, where=where, remedy=_FETCH_AGAIN)


def _check_room(folder, manifest, path):
    needed = sum(entry["size"] + 4096 for entry in manifest["files"]) + 65536
    base = folder
    while not os.path.exists(base):
        base = os.path.dirname(base)
    found = os.statvfs(base)
    free = found.f_bavail * found.f_frsize
    if free < needed:
        raise AioError(
            "not enough room to unpack %s: %d MiB free, %d MiB needed" % (os.path.basename(path), free >> 20, (needed >> 20) + 1),
            where=base,
            remedy="make room there, or set qemu_trees_dir to another file system",
        )


def install(path, folder, *, tree_id=None, sha256=None, manifest_sha256=None, engines=(), check_mode=False):
    """Makes the tree of an artifact stand in ``folder``, whole.

    :arg path: the artifact on this host.
    :arg tree_id: which tree it has to hold; None for whichever it holds.
    :arg sha256: what the artifact's SHA-256 has to be, manifest_sha256: that of its manifest.
    :arg engines: engines that have to be compiled in.
    :returns: ``{changed, id, folder, binary, repaired}``; repaired lists what was wrong with a tree that was there already.
    :raises AioError: nothing has changed then.
    """
    with Archive(path, sha256) as archive:
        manifest = archive.manifest
        if tree_id and manifest["id"] != tree_id:
            raise AioError("the artifact is of another tree: %s" % manifest["id"], where=path, expected=tree_id)
        if manifest_sha256 and archive.manifest_sha256 != manifest_sha256:
            raise AioError("the artifact's manifest is another one: sha256 %s" % archive.manifest_sha256, where=path, expected=manifest_sha256)
        check_fit(manifest, folder, engines, where=path)
        tree = os.path.join(folder, manifest["id"])
        wrong = problems(tree, archive.manifest_sha256) if os.path.lexists(tree) else []
        result = {"changed": bool(wrong) or not os.path.lexists(tree), "id": manifest["id"], "folder": tree, "repaired": wrong}
        result["binary"] = os.path.join(tree, manifest["binary"])
        if not result["changed"]:
            return result
        _check_room(folder, manifest, path)
        if check_mode:
            return result
        try:
            with locked(folder):
                _place(archive, folder, tree)
        except OSError as error:
            reason = "no room left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
            raise AioError("the tree cannot be written: %s" % reason, where=error.filename or folder, remedy="repair that, then run again") from None
    return result


def _place(archive, folder, tree):
    temporary = tempfile.mkdtemp(prefix=TEMPORARY, dir=folder)
    try:
        archive.unpack(temporary)
        _check_binary(temporary, archive.manifest, archive.path)
        wrong = problems(temporary, archive.manifest_sha256, name=archive.manifest["id"])
        if wrong:
            raise AioError("what was written is not what was unpacked: %s" % "; ".join(wrong), where=temporary, remedy="check the host's disk")
        if os.path.lexists(tree):
            _mend(temporary, tree)
        else:
            os.rename(temporary, tree)
        sync_folder(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _mend(good, tree):
    """Puts every file of ``good`` over that of a damaged tree, one rename each, so that the tree is never away; then removes what is too much."""
    if os.path.islink(tree) or not os.path.isdir(tree):
        os.unlink(tree)
        os.rename(good, tree)
        return
    keep = set()
    for base, _folders, files in os.walk(good):
        relative = os.path.relpath(base, good)
        target = os.path.normpath(os.path.join(tree, relative))
        if os.path.islink(target) or (os.path.lexists(target) and not os.path.isdir(target)):
            os.unlink(target)
        os.makedirs(target, exist_ok=True)
        os.chmod(target, 0o755)  # nosec B103  # Kata reads it as any user
        for name in files:
            destination = os.path.join(target, name)
            if os.path.isdir(destination) and not os.path.islink(destination):
                shutil.rmtree(destination)
            os.rename(os.path.join(base, name), destination)
            keep.add(os.path.normpath(os.path.join(relative, name)))
        sync_folder(target)
    for base, folders, files in os.walk(tree):
        for name in files + [name for name in folders if os.path.islink(os.path.join(base, name))]:
            path = os.path.join(base, name)
            if os.path.normpath(os.path.relpath(path, tree)) not in keep:
                os.unlink(path)
        sync_folder(base)


def remove(folder, tree_id):
    """Takes a tree away: renamed first, so that it is never there in part."""
    with locked(folder):
        tree = os.path.join(folder, tree_id)
        temporary = tempfile.mkdtemp(prefix=TEMPORARY, dir=folder)
        os.rename(tree, os.path.join(temporary, "tree"))
        sync_folder(folder)
        shutil.rmtree(temporary)
