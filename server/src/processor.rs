//! Whether this processor has what the program was built for (`.cargo/config.toml`): without it a process ends with
//! "illegal instruction" somewhere, which tells nobody what to do.

/// What the kernel calls the parts of x86-64-v3 that came after x86-64-v2.
const NEEDED: [&str; 7] = ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"];

/// A feature that is needed and is not there; nothing where all are, or nobody can say.
#[must_use]
pub fn lacks() -> Option<&'static str> {
    if !cfg!(all(
        target_os = "linux",
        target_arch = "x86_64",
        target_feature = "avx2"
    )) {
        return None;
    }
    missing(&std::fs::read_to_string("/proc/cpuinfo").ok()?)
}

fn missing(cpuinfo: &str) -> Option<&'static str> {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags"))?;
    NEEDED
        .into_iter()
        .find(|needed| !flags.split_whitespace().any(|flag| flag == *needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_of_2012_lacks_avx2_and_this_one_nothing() {
        let old = "processor\t: 0\nflags\t\t: fpu sse4_2 popcnt avx f16c\n";
        assert_eq!(missing(old), Some("avx2"));
        assert_eq!(missing("Processor\t: ARMv8\n"), None);
        assert_eq!(lacks(), None);
    }
}
