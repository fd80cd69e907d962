//! Processor time from `/proc`: who used the cores while something was measured.
//!
//! Wall-clock figures of a machine that does other work too say little; seconds of processor time say what a thing
//! costs anywhere, and what everybody else used says how far a figure is to be believed.

use serde::{Deserialize, Serialize};

use crate::Anything;

/// Ticks of a second in `/proc`: the kernel's `USER_HZ`, 100 wherever this runs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Fields of `/proc/<id>/stat` that follow the program's name: user and system time, of itself and of the
/// children that it waited for.
const OWN: [usize; 2] = [11, 12];
const CHILDREN: [usize; 2] = [13, 14];

/// Seconds of processor time, by who used them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Used {
    /// The server that is measured.
    pub server_s: f64,
    /// This program: the load generator.
    pub load_s: f64,
    /// Everything else on the machine: brokers and databases, and whatever has nothing to do with it.
    pub others_s: f64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    server_s: f64,
    load_s: f64,
    machine_s: f64,
}

impl Moment {
    /// Looks at the counters of the machine, of the server with this process id and of this program.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn now(server: u32) -> Result<Self, Anything> {
        Ok(Self {
            server_s: of_process(&server.to_string(), OWN)?,
            load_s: of_process("self", OWN)?,
            machine_s: of_machine()?,
        })
    }

    /// What was used from then until `later`.
    #[must_use]
    pub fn until(&self, later: &Self) -> Used {
        let (server_s, load_s) = (later.server_s - self.server_s, later.load_s - self.load_s);
        let machine_s = later.machine_s - self.machine_s;
        Used {
            server_s,
            load_s,
            // The counters are read one after the other.
            others_s: (machine_s - server_s - load_s).max(0.0),
        }
    }
}

/// Seconds of the children that this program has waited for.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn of_children() -> Result<f64, Anything> {
    of_process("self", CHILDREN)
}

/// Seconds of everybody on the machine.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn of_everybody() -> Result<f64, Anything> {
    of_machine()
}

/// Seconds of this program.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn of_this_program() -> Result<f64, Anything> {
    of_process("self", OWN)
}

/// Seconds of a process and of all that descend from it: SQL runs in processes of its own.
///
/// # Errors
/// When `/proc` cannot be read, or the process is gone.
pub fn of_tree(root: u32) -> Result<f64, Anything> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Processes end while they are listed.
        if let Some(parent) = std::fs::read_to_string(format!("/proc/{id}/stat"))
            .ok()
            .and_then(parent_in)
        {
            parents.push((id, parent));
        }
    }
    let mut seconds = of_process(&root.to_string(), OWN)?;
    let mut found = vec![root];
    while let Some(one) = found.pop() {
        for (id, _) in parents.iter().filter(|(_, parent)| *parent == one) {
            seconds += of_process(&id.to_string(), OWN).unwrap_or(0.0);
            found.push(*id);
        }
    }
    Ok(seconds)
}

fn parent_in(stat: String) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

/// How many programs wanted a core in the last minute.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn load_average() -> Result<f64, Anything> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

fn of_process(id: &str, fields: [usize; 2]) -> Result<f64, Anything> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name may have spaces and parentheses of its own.
    let (_, after_name) = text.rsplit_once(')').ok_or("`/proc/<id>/stat` without a name")?;
    ticks(after_name, &fields)
}

fn of_machine() -> Result<f64, Anything> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let all = text.lines().find_map(|line| line.strip_prefix("cpu "));
    // user, nice, system; idle and iowait are no work; irq, softirq.
    ticks(all.ok_or("`/proc/stat` without `cpu`")?, &[0, 1, 2, 5, 6])
}

fn ticks(line: &str, fields: &[usize]) -> Result<f64, Anything> {
    let words: Vec<_> = line.split_whitespace().collect();
    let mut sum = 0;
    for field in fields {
        sum += words.get(*field).ok_or("too few fields")?.parse::<u64>()?;
    }
    Ok(sum as f64 / TICKS_PER_SECOND)
}
