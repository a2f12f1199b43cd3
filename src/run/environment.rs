//! Where a run takes place: the host, the file system under the data, and the state of the directory in which the run was started.

use std::fs;
use std::path::Path;

use procfs::Current;
use sha2::{Digest, Sha256};

use super::Options;
use crate::cluster::process;
use crate::record::{Harness, Host, Subject};

/// This build of replbench.
pub(super) fn harness() -> Harness {
    Harness {
        version: env!("CARGO_PKG_VERSION").into(),
        git: option_env!("REPLBENCH_GIT").map(Into::into),
    }
}

/// The named commit, or else the commit of the current directory, with `-dirty` if the directory has changes; `None` outside a repository.
pub(super) fn subject(options: &Options) -> Subject {
    Subject {
        git: options.subject.clone().or_else(git_revision),
        tags: options.tags.clone(),
    }
}

fn git_revision() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = process::command("git").args(arguments).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let is_clean = git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if is_clean {
        commit
    } else {
        format!("{commit}-dirty")
    })
}

/// This machine, and the file system that holds `data`. `data` is `None` if it is not known where the servers' data lies.
pub(super) fn host(data: Option<&Path>) -> Host {
    let cpu = procfs::CpuInfo::current().ok();
    let memory = procfs::Meminfo::current().ok();
    let kernel = procfs::sys::kernel::Version::current().ok();
    Host {
        host_id: host_id(),
        cpu: cpu
            .as_ref()
            .and_then(|cpu| cpu.model_name(0).map(Into::into))
            .unwrap_or_default(),
        cores: std::thread::available_parallelism()
            .ok()
            .and_then(|cores| u32::try_from(cores.get()).ok())
            .unwrap_or(0),
        memory_bytes: memory.map_or(0, |memory| memory.mem_total),
        kernel: kernel.map_or_else(String::new, |version| {
            format!("{}.{}.{}", version.major, version.minor, version.patch)
        }),
        filesystem: data.and_then(filesystem).unwrap_or_default(),
        virtualisation: virtualisation(),
        fdatasync: None,
    }
}

/// The type of the file system that a path lies on: the mount with the longest matching prefix.
fn filesystem(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = procfs::process::Process::myself().ok()?.mountinfo().ok()?;
    mounts
        .into_iter()
        .filter(|mount| path.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.as_os_str().len())
        .map(|mount| mount.fs_type)
}

/// A digest of the machine id, so that the id itself is not published.
fn host_id() -> String {
    // Containers have an empty machine id, or none.
    let id = ["/etc/machine-id", "/proc/sys/kernel/hostname"]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .find(|id| !id.trim().is_empty())
        .unwrap_or_default();
    let digest = Sha256::digest(format!("replbench host {}", id.trim()));
    hex::encode(&digest[..6])
}

fn virtualisation() -> Option<String> {
    let cpu = procfs::CpuInfo::current().ok()?;
    let is_guest = cpu.flags(0)?.contains(&"hypervisor");
    let product = fs::read_to_string("/sys/class/dmi/id/sys_vendor").unwrap_or_default();
    is_guest.then(|| match product.trim() {
        "" => "virtual machine".into(),
        vendor => format!("virtual machine ({vendor})"),
    })
}
