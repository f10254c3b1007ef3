//! What this machine has to offer a loader.

use std::fs;
use std::path::Path;

use super::report::Report;

/// Fewer of them are soon used up by others: an editor takes tens of thousands.
const FEW_WATCHES: u64 = 65_536;

/// Whether the kernel tells of changes in as many directories as there are.
pub(super) fn inotify(report: &mut Report<'_>, dir: Option<&Path>) -> anyhow::Result<()> {
    let limit = |name: &str| -> Option<u64> {
        fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok()
    };
    let (Some(watches), Some(instances)) = (limit("max_user_watches"), limit("max_user_instances")) else {
        return report.warn(
            "inotify",
            "this system has none: changes are told in another way, or found by the sweep",
            "`loader --poll` sets the period of the sweep",
        );
    };
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC) {
        let remedy = format!("`sysctl fs.inotify.max_user_instances={}`", instances * 8);
        let text = format!("no instance is left of the {instances} that a user may have: {error}");
        return report.fail("inotify", &text, Some(&remedy));
    }
    let wanted = match dir.map(directories).transpose() {
        Ok(wanted) => wanted,
        Err(error) => return report.fail("inotify", &error.to_string(), None),
    };
    let remedy = format!("`sysctl fs.inotify.max_user_watches={}`", watches.max(FEW_WATCHES) * 8);
    match wanted {
        Some(wanted) if wanted > watches => report.fail(
            "inotify",
            &format!("{wanted} directories to watch, and {watches} are allowed to all of a user's programs"),
            Some(&remedy),
        ),
        _ if watches < FEW_WATCHES => {
            report.warn("inotify", &format!("only {watches} directories can be watched by a user"), &remedy)
        }
        _ => report.ok("inotify", &format!("{watches} directories can be watched by a user")),
    }
}

/// How many directories `dir` is, those in it included that a source descends to.
fn directories(dir: &Path) -> anyhow::Result<u64> {
    use anyhow::Context as _;
    let mut count = 0;
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        count += 1;
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && !entry.file_name().as_encoded_bytes().starts_with(b".") {
                left.push(entry.path());
            }
        }
    }
    Ok(count)
}
