# Copyright (c) 2026, the kataops founders
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every configuration key of both runtimes, with its type, by release: data. PRIVATE to kataops.aio.

Read from the loaders' own structures, Kata 2.5.0 to 4.1.0: Go ``src/runtime/pkg/katautils/config.go``, runtime-rs
``src/libs/kata-types/src/config``. One line is one key: ``name type [since [until]]``; ``since`` is the first release that has it (none or ``-``: older
than these tables), ``until`` the last one. A key whose type changed has a line for each. Types are the loader's own words; ``=name`` is another
spelling of a key, ``!`` one that must be there, and a type in the shape of a table's name is that table.
"""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.kataops.aio.plugins.plugin_utils._kata import releases

GO = {
    "agent": """
        cdh_api_timeout uint32 3.9.0
        debug_console_enabled bool
        dial_timeout uint32
        enable_debug bool
        enable_tracing bool
        kernel_modules []string
        launch_process_timeout uint32 3.29.0
        visible_cdi_devices bool 3.32.0
    """,
    "factory": """
        enable_template bool
        template_path string
        vm_cache_endpoint string
        vm_cache_number uint
    """,
    "guest_extension_images": """
        name string 4.0.0
        path string 4.0.0
        verity_params string 4.0.0
    """,
    "hypervisor": """
        block_device_aio string 3.0.0
        block_device_cache_direct bool
        block_device_cache_noflush bool
        block_device_cache_set bool
        block_device_driver string
        block_device_logical_sector_size uint32 3.29.0
        block_device_physical_sector_size uint32 3.29.0
        cold_plug_vfio string 3.2.0
        confidential_guest bool
        cpu_features string
        ctlpath string - 3.9.0
        default_bridges uint32
        default_maxmemory uint64
        default_maxvcpus uint32
        default_memory uint32
        default_vcpus float32 3.3.0
        default_vcpus int32 - 3.2.0
        disable_block_device_use bool
        disable_guest_selinux bool 3.1.0
        disable_image_nvdimm bool
        disable_nesting_checks bool
        disable_seccomp bool
        disable_selinux bool
        disable_vhost_net bool
        disk_rate_limiter_bw_max_rate int64
        disk_rate_limiter_bw_one_time_burst int64
        disk_rate_limiter_ops_max_rate int64
        disk_rate_limiter_ops_one_time_burst int64
        enable_annotations []string
        enable_debug bool
        enable_guest_swap bool
        enable_hugepages bool
        enable_iommu bool
        enable_iommu_platform bool
        enable_iothreads bool
        enable_mem_prealloc bool
        enable_numa bool 3.27.0
        enable_vhost_user_store bool
        enable_virtio_mem bool
        entropy_source string
        extra_monitor_socket string 3.2.0
        file_mem_backend string - 3.31.0
        firmware string
        firmware_volume string
        guest_extension_images []guest_extension_images 4.0.0
        guest_hook_path string
        guest_memory_dump_paging bool
        guest_memory_dump_path string
        hot_plug_vfio string 3.2.0
        hotplug_vfio_on_root_bus bool - 3.1.3
        hypervisor_loglevel uint32 3.14.0
        image string
        indep_iothreads uint32 3.24.0
        initrd string
        jailer_path string
        kernel string
        kernel_params string
        kernel_verity_params string 3.27.0
        machine_accelerators string
        machine_type string
        measurement_algo string 3.22.0
        memory_offset uint64
        memory_slots uint32
        msize_9p uint32
        net_rate_limiter_bw_max_rate int64
        net_rate_limiter_bw_one_time_burst int64
        net_rate_limiter_ops_max_rate int64
        net_rate_limiter_ops_one_time_burst int64
        numa_mapping []string 3.27.0
        path string
        pcie_root_port uint32 - 3.1.3
        pcie_root_port uint32 3.6.0
        pcie_switch_port uint32 3.6.0
        pflashes []string
        reclaim_guest_freed_memory bool 3.17.0
        remote_hypervisor_socket string 3.3.0
        remote_hypervisor_timeout uint32 3.3.0
        rootfs_type string 3.1.0
        rootless bool
        rx_rate_limiter_max_rate uint64
        seccompsandbox string
        sev_snp_guest bool 3.1.0
        shared_fs string
        snp_certs_path string 3.7.0 3.13.0
        snp_guest_policy *uint64 3.20.0
        snp_id_auth string 3.15.0
        snp_id_block string 3.15.0
        tdx_quote_generation_service_socket_port uint32 3.6.0
        tx_rate_limiter_max_rate uint64
        use_legacy_serial bool
        valid_ctlpaths []string - 3.9.0
        valid_entropy_sources []string
        valid_file_mem_backends []string - 3.31.0
        valid_hypervisor_paths []string
        valid_jailer_paths []string
        valid_vhost_user_store_paths []string
        valid_virtio_fs_daemon_paths []string
        vhost_user_reconnect_timeout_sec uint32 3.1.0
        vhost_user_store_path string
        virtio_fs_cache string
        virtio_fs_cache_size uint32
        virtio_fs_daemon string
        virtio_fs_extra_args []string
        virtio_fs_queue_size uint32 3.1.0
    """,
    "image": """
        provision string - 3.3.0
        service_offload bool - 3.3.0
    """,
    "runtime": """
        create_container_timeout uint64 3.4.0
        dan_conf string 3.7.0
        disable_guest_empty_dir bool
        disable_guest_seccomp bool
        disable_new_netns bool
        emptydir_mode string 3.28.0
        enable_debug bool
        enable_pprof bool
        enable_tracing bool
        enable_vcpus_pinning bool 3.1.0
        experimental []string
        experimental_force_guest_pull bool 3.18.0
        guest_selinux_label string 3.1.0
        internetworking_model string
        jaeger_endpoint string
        jaeger_password string
        jaeger_user string
        kubelet_root_dir string 3.28.0
        pod_resource_api_sock string 3.24.0
        sandbox_bind_mounts []string
        sandbox_cgroup_only bool
        static_sandbox_resource_mgmt bool
        vfio_mode string
    """,
}

RS = {
    "hypervisor": """
        block_device_aio String 3.20.0
        block_device_cache_direct bool
        block_device_cache_noflush bool
        block_device_cache_set bool
        block_device_driver String
        block_device_logical_sector_size u32 3.29.0
        block_device_physical_sector_size u32 3.29.0
        boot_from_template bool 3.23.0
        boot_to_be_template bool 3.23.0
        cold_plug_vfio String 3.31.0
        confidential_guest bool
        cpu_features String
        ctlpath String
        dbg_monitor_socket =extra_monitor_socket 3.29.0
        dbg_monitor_socket String 3.6.0 3.28.0
        default_bridges u32
        default_gpu_model String 3.19.0
        default_gpus u32 3.19.0
        default_maxmemory u32 3.3.0
        default_maxvcpus u32
        default_memory u32
        default_vcpus f32 3.20.0
        default_vcpus i32 - 3.19.1
        device_state_path String 3.23.0
        disable_block_device_use bool
        disable_guest_selinux bool 3.9.0
        disable_image_nvdimm bool
        disable_nested_virtualization Option<bool> 4.1.0
        disable_nesting_checks bool
        disable_seccomp bool
        disable_selinux bool 3.21.0
        disable_vhost_net bool
        disk_rate_limiter_bw_max_rate u64 3.21.0
        disk_rate_limiter_bw_one_time_burst Option<u64> 3.21.0
        disk_rate_limiter_ops_max_rate u64 3.21.0
        disk_rate_limiter_ops_one_time_burst Option<u64> 3.21.0
        enable_annotations Vec<String>
        enable_balloon_f_reporting bool 3.9.0 3.13.0
        enable_debug bool
        enable_guest_swap bool
        enable_hugepages bool
        enable_iommu bool
        enable_iommu_platform bool
        enable_iothreads bool
        enable_mem_prealloc bool
        enable_swap bool - 3.13.0
        enable_vhost_user_store bool
        enable_virtio_mem bool
        entropy_source String
        extra_monitor_socket String 3.29.0
        factory factory 3.23.0
        file_mem_backend String - 3.31.0
        firmware String
        guest_extension_images Vec<guest_extension_images> 4.0.0
        guest_hook_path String
        guest_memory_dump_paging bool
        guest_memory_dump_path String
        guest_swap_create_threshold_secs u64 3.15.0
        guest_swap_path String 3.15.0
        guest_swap_size_percent u64 3.15.0
        hotplug_vfio_on_root_bus bool - 3.32.0
        hugepage_type HugePageType 3.3.0
        hypervisor_socket String 3.11.0
        hypervisor_timeout i32 3.11.0
        image String
        indep_iothreads u32 3.32.0
        initdata String 3.19.0
        initrd String
        jailer_path String
        kernel String
        kernel_params String
        kernel_verity_params String 3.27.0
        log_level String 3.3.0
        machine_accelerators String
        machine_type String
        memory_offset u64
        memory_path String 3.23.0
        memory_slots u32
        msize_9p u32 - 3.28.0
        network_queues u32
        num_queues usize 3.24.0
        overhead_memory u32 4.0.0
        overhead_vcpus f32 4.0.0
        path String
        pcie_root_port u32
        pcie_switch_port u32 3.17.0
        pflashes Vec<String>
        prefetch_list_path String 3.2.0
        queue_size u32 3.24.0
        reclaim_guest_freed_memory bool 3.14.0
        rootfs_type String 3.1.0
        rootless bool
        rootless_user Option<rootless_user> 3.22.0
        rx_rate_limiter_max_rate u64
        seccomp_sandbox Option<String> 3.20.0
        selinux_label Option<String> 3.21.0
        sev_snp_guest bool 3.15.0
        shared_fs Option<String>
        snp_guest_policy u32 3.28.0
        snp_id_auth String 3.28.0
        snp_id_block String 3.28.0
        tdx_quote_generation_service_socket_port u32 3.18.0
        tx_rate_limiter_max_rate u64
        valid_ctlpaths Vec<String>
        valid_entropy_sources Vec<String>
        valid_file_mem_backends Vec<String> - 3.31.0
        valid_hypervisor_paths Vec<String>
        valid_jailer_paths Vec<String>
        valid_vhost_user_store_paths Vec<String>
        valid_virtio_fs_daemon_paths Vec<String>
        vhost_user_store_path String
        virtio_fs_cache String
        virtio_fs_cache_size u32
        virtio_fs_daemon String
        virtio_fs_extra_args Vec<String>
        virtio_fs_is_dax bool
        virtio_fs_queue_size u32 3.1.0
        vm_rootfs_driver String 3.2.0
    """,
    "agent": """
        cdh_api_timeout_ms u32 3.31.0
        container_pipe_size u32 3.2.0
        container_pipe_size u32! - 3.1.3
        create_container_timeout u32 3.19.0
        debug_console_enabled bool
        dial_timeout_ms u32
        enable_debug bool
        enable_tracing bool
        health_check_request_timeout_ms u32
        kernel_modules Vec<String>
        launch_process_timeout u32 3.29.0
        log_level String 3.3.0
        log_port u32
        mem_agent mem_agent 3.13.0
        passfd_listener_port u32 3.3.0
        policy String 3.23.0
        reconnect_timeout_ms u32
        request_timeout_ms u32 - 3.18.0
        server_port u32
        visible_cdi_devices bool 3.32.0
    """,
    "runtime": """
        agent_name String
        dan_conf String 3.3.0
        disable_guest_empty_dir bool 3.23.0 3.32.0
        disable_guest_seccomp bool
        disable_new_netns bool
        emptydir_mode String 3.31.0
        enable_debug bool
        enable_pprof bool
        enable_tracing bool
        enable_vcpus_pinning bool 3.30.0
        experimental Vec<String>
        hypervisor_name String
        internetworking_model String
        jaeger_endpoint String
        jaeger_password String
        jaeger_user String
        keep_abnormal bool 3.2.0
        log_level String 3.3.0
        name String
        passfd_listener_port u32 3.3.0
        pod_resource_api_sock String 3.31.0
        sandbox_bind_mounts Vec<String>
        sandbox_cgroup_only bool
        shared_mounts Vec<shared_mounts> 3.3.0
        static_resource_mgmt bool - 3.1.3
        static_sandbox_resource_mgmt bool 3.2.0
        use_passfd_io bool 3.3.0
        vfio_mode String
    """,
    "mem_agent": """
        compact_disable Option<bool> 3.13.0
        compact_force_times Option<u64> 3.13.0
        compact_order Option<u8> 3.13.0
        compact_period_psi_percent_limit Option<u8> 3.13.0
        compact_period_secs Option<u64> 3.13.0
        compact_psi_percent_limit Option<u8> 3.13.0
        compact_sec_max Option<i64> 3.13.0
        compact_threshold Option<u64> 3.13.0
        enable bool 3.13.0
        mem_agent_enable =enable 3.13.0
        memcg_disable Option<bool> 3.13.0
        memcg_eviction_psi_percent_limit Option<u8> 3.13.0
        memcg_eviction_run_aging_count_min Option<u64> 3.13.0
        memcg_period_psi_percent_limit Option<u8> 3.13.0
        memcg_period_secs Option<u64> 3.13.0
        memcg_swap Option<bool> 3.13.0
        memcg_swappiness_max Option<u8> 3.13.0
    """,
    "factory": """
        enable_template bool 3.23.0
        template_path String 3.23.0
    """,
    "rootless_user": """
        gid u32 3.22.0
        groups Vec<u32> 3.22.0
        uid u32 3.22.0
        user_name String 3.22.0
    """,
    "guest_extension_images": """
        name String! 4.0.0
        path String 4.0.0
        verity_params String 4.0.0
    """,
    "shared_mounts": """
        dst_ctr String 3.3.0
        dst_path String 3.3.0
        name String 3.3.0
        src_ctr String 3.3.0
        src_path String 3.3.0
    """,
}

#: Tables of runtime-rs that refuse a key that they do not know (serde's ``deny_unknown_fields``), and since when. All others ignore it.
RS_STRICT = {"agent": "3.29.0", "factory": "3.29.0", "mem_agent": "3.29.0", "rootless_user": "3.29.0", "shared_mounts": "3.29.0"}


class Row(t.NamedTuple):
    """One line of a table."""

    type: str
    since: str | None
    until: str | None


class Known(t.NamedTuple):
    """What a release makes of a key. ``has``: None where that cannot be told (release unknown, a pre-release, or newer than these tables)."""

    has: bool | None
    type: str | None
    name: str


@functools.lru_cache(maxsize=None)
def table(runtime: str, section: str) -> dict[str, list[Row]]:
    """The rows of a section by key; empty for a section without a table."""
    found: dict[str, list[Row]] = {}
    for line in (GO if runtime == "go" else RS).get(section, "").split("\n"):
        words = line.split()
        if words:
            since = words[2] if len(words) > 2 and words[2] != "-" else None
            found.setdefault(words[0], []).append(Row(words[1], since, words[3] if len(words) > 3 else None))
    return found


def _covers(row: Row, release: str) -> bool | None:
    """Is a key of this row in a release? None for a pre-release of the one that brought it."""
    parsed = releases.parse_release(release)
    if parsed is None:
        return None
    if row.until is not None and parsed[:2] > releases.parse_release(row.until)[:2]:
        return False
    if row.since is None or releases.at_least(release, row.since):
        return True
    return None if parsed[:3] == releases.parse_release(row.since)[:3] else False


@functools.lru_cache(maxsize=4096)
def lookup(runtime: str, section: str, key: str, release: str | None) -> Known:
    """What a release of a runtime makes of a key of a section.

    :arg section: ``hypervisor``, ``agent``, ``runtime`` ...: a table's name here, not the user's ``[hypervisor.qemu]``.
    :returns: for a spelling that stands for another key, ``name`` is that key.
    """
    rows = table(runtime, section).get(key)
    if rows is None:
        return Known(None if releases.newer_than_known(release) else False, None, key)
    if releases.parse_release(release) is None:
        always = len(rows) == 1 and rows[0].since in (None, "3.0.0") and rows[0].until is None
        return _known(rows[-1], True if always else None, runtime, section, key, release)
    for row in rows:
        covered = _covers(row, release or "")
        if covered is not False:
            return _known(row, covered, runtime, section, key, release)
    return Known(False, None, key)


def _known(row: Row, has: bool | None, runtime: str, section: str, key: str, release: str | None) -> Known:
    if row.type.startswith("="):
        return lookup(runtime, section, row.type[1:], release)._replace(name=row.type[1:])
    return Known(has, row.type.rstrip("!"), key)


def required(runtime: str, section: str, release: str | None) -> list[str]:
    """The keys that a table of this section must have."""
    return [
        key
        for key, rows in table(runtime, section).items()
        for row in rows
        if row.type.endswith("!") and releases.parse_release(release) and _covers(row, release or "")
    ]


def strict(section: str, release: str | None) -> bool | None:
    """Does runtime-rs refuse unknown keys of this section? None where the release is not known."""
    return releases.at_least(release, RS_STRICT[section]) if section in RS_STRICT else False
