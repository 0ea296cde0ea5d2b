//! How much memory is free: of the machine, and of the container or job that this process runs in.

use std::path::Path;

/// Bytes that can still be taken, where Linux tells.
pub fn available_bytes() -> Option<usize> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let machine = of_machine(&read(Path::new("/proc/meminfo"))?)?;
    let folder = own_group(&read(Path::new("/proc/self/cgroup")).unwrap_or_default());
    let number =
        |name: &str| read(&Path::new("/sys/fs/cgroup").join(&folder).join(name))?.trim().parse().ok();
    // "max" is no number: no limit. Memory that only caches files counts as used here, so this errs on the safe side.
    let group = number("memory.max").zip(number("memory.current"));
    Some(group.map_or(machine, |(most, used): (usize, usize)| machine.min(most.saturating_sub(used))))
}

fn of_machine(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? * 1024)
}

/// Folder of this process's group below the root of version 2.
fn own_group(cgroup: &str) -> String {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"));
    path.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_texts_are_read() {
        assert_eq!(of_machine("MemTotal:  9 kB\nMemAvailable:   12 kB\n"), Some(12 * 1024));
        assert_eq!(of_machine("MemAvailable: many\n"), None);
        assert_eq!(own_group("1:cpu:/x\n0::/jobs/7\n"), "jobs/7");
    }
}
